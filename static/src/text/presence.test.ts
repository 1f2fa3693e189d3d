import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clockIsOff, clockWords, presenceWords, reasonWords, whyAndSince } from './presence.ts'

const SINCE = '2026-03-01T12:00:00Z'
const LATER = Date.parse('2026-03-01T15:20:00Z')

test('a known reason is told in words, any other as it is', () => {
  assert.equal(reasonWords('connection_lost'), 'connection lost')
  assert.equal(reasonWords('site_silent'), 'its whole site went silent')
  assert.equal(reasonWords('toString'), 'toString')
  assert.equal(reasonWords('Something of its own'), 'Something of its own')
})

test('a refusal says why', () => {
  assert.equal(reasonWords('refused: its certificate has expired'), 'refused: its certificate has expired')
})

test('what fails is told one by one', () => {
  assert.equal(reasonWords('custom.backup_failing, disk_failing, refused_metrics'), 'plugin backup fails, disk collector fails, the hub refuses its metrics')
})

test('a machine that is away is so for a time and a reason', () => {
  const away = { status: 'OFFLINE', statusReason: 'shutdown', statusSince: SINCE } as const
  assert.equal(presenceWords(away, LATER), 'for 3 h: shut down')
  assert.equal(whyAndSince(away, LATER), 'shut down · 3 h')
  assert.equal(presenceWords({ ...away, statusReason: 'never_connected' }, LATER), 'has never connected')
  assert.equal(whyAndSince({ ...away, statusSince: null }, LATER), 'shut down')
})

test('an active machine needs no words unless it is awaited', () => {
  const active = { status: 'ACTIVE', statusReason: '', statusSince: SINCE } as const
  assert.equal(presenceWords(active, LATER), '')
  assert.equal(presenceWords({ ...active, statusReason: 'hub_away' }, LATER), 'expected back: the hub was away')
})

test('a clock agrees, is ahead, or behind', () => {
  assert.deepEqual([null, -20, 12_400, -125_000].map(clockWords), [
    'not compared yet',
    'agrees with the hub’s',
    '12 s ahead of the hub’s',
    '2 min 5 s behind the hub’s',
  ])
  assert.deepEqual([null, 5_000, -5_001].map(clockIsOff), [false, false, true])
})
