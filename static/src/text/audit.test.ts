import assert from 'node:assert/strict'
import { test } from 'node:test'
import { agentIn, auditCsv, detailLines, detailSummary, shortIds } from './audit.ts'

test('nested detail is read line by line', () => {
  const detail = { role: 'viewer', tags: ['a', 'b'], before: { site: 'Wien', tags: [] }, note: null, steps: [{ n: 1 }] }
  assert.deepEqual(detailLines(detail), [
    ['role', 'viewer'],
    ['tags', 'a, b'],
    ['before.site', 'Wien'],
    ['before.tags', '–'],
    ['note', '–'],
    ['steps.0.n', '1'],
  ])
  assert.equal(detailSummary({ role: 'viewer', to: 2 }), 'role: viewer · to: 2')
  assert.equal(detailSummary({}), '')
})

test('an entry is one line of CSV, whatever stands in it', () => {
  const entry = { hubId: 'h', number: 3, at: '2026-01-01T00:00:00Z', actor: '=cmd()', action: 'a', target: 'b:1', detail: { text: 'x\r\n"y"' }, hash: 'f' }
  assert.equal(
    auditCsv([entry]),
    'at,actor,action,target,detail,hub_id,number,hash\r\n2026-01-01T00:00:00Z,\'=cmd(),a,b:1,"{""text"":""x\\r\\n\\""y\\""""}",h,3,f\r\n',
  )
})

test('ids are cut to their start, and names stay', () => {
  assert.equal(shortIds('session:bfd16698-8a66-4b64-a4f9-19474025d1f3'), 'session:bfd16698…')
  assert.equal(shortIds('user:bfd16698-8a66'), 'user:bfd16698-8a66')
})

test('a target may name a machine', () => {
  assert.equal(agentIn('agent:7'), '7')
  assert.equal(agentIn('user:agent:7'), null)
})
