import assert from 'node:assert/strict'
import { test } from 'node:test'
import { found, hardwareFacts, packagesOf, rowsCsv, systemFacts } from './inventory.ts'

test('only what the machine tells becomes a fact', () => {
  const body = {
    manufacturer: '',
    cpuModel: 'AMD EPYC',
    cpuCores: 2,
    cpuThreads: 4,
    memoryTotalBytes: 17_179_869_184,
    drives: [{ name: 'vda', model: '', sizeBytes: 274_877_906_944, rotational: true }],
  }
  assert.deepEqual(hardwareFacts(body), [
    ['Processor', 'AMD EPYC'],
    ['Cores', '2, 4 threads'],
    ['Memory', '16.0 GiB'],
    ['Drive', 'vda · 256 GiB · rotating'],
  ])
  assert.deepEqual(systemFacts({ name: 'Debian', version: '12', kernel: 7 }), [['System', 'Debian 12']])
})

test('lists that are none, and items that are none, are no rows', () => {
  assert.deepEqual(packagesOf({ items: 'x' }), [])
  assert.deepEqual(packagesOf({ items: [null, 5, { name: 'bash', version: 7 }] }), [{ name: 'bash', version: '', source: '' }])
})

test('every word that is searched for must be there, in whichever field', () => {
  const rows = [
    { name: 'openssl', version: '3.0', source: 'dpkg' },
    { name: 'bash', version: '5.2', source: 'dpkg' },
  ]
  assert.deepEqual(found(rows, ' SSL dpkg '), [rows[0]])
  assert.deepEqual(found(rows, 'ssl 5'), [])
  assert.equal(found(rows, ' ').length, 2)
})

test('rows become CSV under the names of their fields', () => {
  assert.equal(rowsCsv([{ name: '=x', version: '1' }], ['name', 'version']), "name,version\r\n'=x,1\r\n")
})
