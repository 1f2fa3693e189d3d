import assert from 'node:assert/strict'
import { test } from 'node:test'
import { choiceWords, placeWords, tellApart } from './machines.ts'

const machine = (id: string, name: string, site = '', ipAddresses: string[] = [], hostname = name) => ({ id, name, site, ipAddresses, hostname })

test('a place is host, site and first address, without what says nothing', () => {
  assert.equal(placeWords(machine('a', 'web', 'Bern', ['10.0.0.1', '10.0.0.2'], 'web.example')), 'web.example · Bern · 10.0.0.1')
  assert.equal(placeWords(machine('a', 'web')), '')
})

test('machines of one name are told apart by place, and by id where the place is one', () => {
  const found = tellApart([
    machine('11111111-a', 'web', 'Bern'),
    machine('22222222-b', 'web', 'Basel'),
    machine('33333333-c', 'web', 'Basel'),
    machine('44444444-d', 'db', 'Bern'),
  ])
  assert.deepEqual([...found], [
    ['11111111-a', 'Bern'],
    ['22222222-b', 'id 22222222 · Basel'],
    ['33333333-c', 'id 33333333 · Basel'],
  ])
})

test('where one is chosen no two machines look the same', () => {
  const asked = (id: string, name: string, status: 'ACTIVE' | 'OFFLINE', site = '', tags: string[] = []) => ({ ...machine(id, name, site), status, tags })
  const found = choiceWords([
    asked('11111111-a', 'web', 'ACTIVE', 'Bern', ['shop']),
    asked('22222222-b', 'web', 'ACTIVE', 'Bern', ['shop']),
    asked('33333333-c', 'db', 'OFFLINE', 'Bern'),
    asked('44444444-d', 'mail', 'ACTIVE'),
  ])
  assert.deepEqual([...found.values()], ['Active · id 11111111 · Bern · shop', 'Active · id 22222222 · Bern · shop', 'Offline · Bern', 'Active'])
})
