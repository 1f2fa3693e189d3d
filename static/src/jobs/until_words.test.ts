import assert from 'node:assert/strict'
import { test } from 'node:test'
import { momentWords, untilWords } from './until_words.ts'

const NOW = new Date(2026, 2, 1, 12, 0, 0).getTime()
const command = { expiresAt: new Date(NOW + 15 * 60_000).toISOString(), startedAt: null, timeoutSec: 60 }

test('what waits says for how long, what runs when it is stopped', () => {
  assert.equal(untilWords({ ...command, status: 'PENDING' }, NOW), 'waits for the machine until 12:15:00, in 15 min')
  assert.equal(untilWords({ ...command, status: 'SENT' }, NOW), 'must begin by 12:15:00, in 15 min')
  const startedAt = new Date(NOW - 20_000).toISOString()
  assert.equal(untilWords({ ...command, status: 'EXECUTING', startedAt }, NOW), 'is stopped at 12:00:40, in 40 s')
  assert.equal(untilWords({ ...command, status: 'EXECUTING', startedAt, timeoutSec: null }, NOW), '')
  assert.equal(untilWords({ ...command, status: 'COMPLETED', startedAt }, NOW), '')
})

test('another day is named, and what is over has no time left', () => {
  assert.equal(momentWords(NOW + 30 * 3600_000, NOW), '2026-03-02 18:00:00, in 1 d')
  assert.equal(momentWords(NOW - 1000, NOW), '11:59:59')
})
