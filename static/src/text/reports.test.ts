import assert from 'node:assert/strict'
import { test } from 'node:test'
import { byDay, reportWords, reportsCsv } from './reports.ts'

const words = (kind: string, data: Record<string, unknown>) => reportWords({ kind, data })

test('a disconnection says how long, why, and how many attempts it took', () => {
  assert.deepEqual(words('disconnected', { code: 1006, reason: 'reset by peer', for_ms: 185_000, attempts: 4 }), {
    title: 'Disconnected for 3 min 5 s',
    detail: 'connection lost (reset by peer) · 4 attempts',
    tone: 'notable',
  })
  assert.equal(words('disconnected', { code: 1000, reason: 'shutdown', for_ms: 1000, attempts: 1 }).detail, 'shut down')
  assert.equal(words('disconnected', { code: 4999, reason: '' }).detail, 'closed with code 4999')
})

test('a gap says what was lost and why; one that lost nothing says that', () => {
  const lost = words('gap', { stream: 'live', cause: 'bytes', dropped: 12, from_ms: 0, to_ms: 0 })
  assert.equal(lost.title, '12 samples lost')
  assert.match(lost.detail, /^its spool was full · /)
  assert.equal(words('gap', { stream: 'events', cause: 'age', dropped: 1 }).title, '1 report lost')
  assert.equal(words('gap', { cause: 'renewed', dropped: 0 }).tone, 'plain')
})

test('a start tells a crash from an order, and the first one from a later one', () => {
  assert.deepEqual(words('started', { version: '1.0', clean: false, down_ms: 61_000 }), {
    title: 'Agent started after 1 min 1 s down',
    detail: 'it had ended without order: killed, crashed, or the power was cut · version 1.0',
    tone: 'notable',
  })
  assert.deepEqual(words('started', { version: '1.0', clean: false, down_ms: null }), { title: 'Agent started for the first time', detail: 'version 1.0', tone: 'plain' })
  assert.equal(words('started', { version: '1.0', clean: true, down_ms: 5_000 }).tone, 'plain')
})

test('collectors fail and work again', () => {
  assert.equal(words('collector_failing', { collector: 'custom.backup', reason: 'exit code 3' }).title, 'Plugin backup fails')
  assert.equal(words('collector_recovered', { collector: 'disk', failures: 1 }).detail, 'after 1 failure')
})

test('a clock steps forward or back', () => {
  assert.equal(words('clock_stepped', { by_ms: -90_000 }).title, 'Clock stepped 1 min 30 s back')
})

test('what this version does not know, and what is not as it should be, is still shown', () => {
  assert.deepEqual(words('disk_swapped', { slot: 3 }), { title: 'Disk swapped', detail: 'slot: 3', tone: 'plain' })
  assert.equal(words('disconnected', { code: 'x', reason: ['y'], for_ms: 'z' }).title, 'Disconnected')
  assert.equal(words('collector_failing', {}).title, 'A collector fails')
})

test('reports are put under their days', () => {
  const at = (iso: string) => ({ agentId: 'a', at: iso, kind: 'started', data: {} })
  const days = byDay([at('2026-03-02T12:00:00Z'), at('2026-03-02T11:00:00Z'), at('2026-02-01T12:00:00Z')])
  assert.deepEqual(days.map(([, reports]) => reports.length), [2, 1])
})

test('a report is one line of CSV', () => {
  const report = { agentId: 'a', at: '2026-03-02T12:00:00Z', kind: 'collector_failing', data: { collector: 'disk', reason: '=x\n' } }
  assert.equal(reportsCsv([report]).split('\r\n')[1], '2026-03-02T12:00:00Z,collector_failing,Disk collector fails,"\'=x\n","{""collector"":""disk"",""reason"":""=x\\n""}"')
})
