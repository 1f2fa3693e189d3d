import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CommandReason } from '../generated/protocol'
import { besideWords, endingMark, endingWords, exitWords, reasonWords } from './endings.ts'

const ended = {
  status: 'FAILED',
  reason: 'exit_code',
  exitCode: 1,
  result: '',
  startedAt: '2026-03-01T12:00:00.000Z',
  finishedAt: '2026-03-01T12:00:00.400Z',
  truncated: false,
  timeoutSec: 60,
  outputBytes: {},
  keptBytes: {},
} as const

test('a signal is named, an unusual one by its number, a large negative code stays a code', () => {
  assert.deepEqual([3, 0, -15, -9, -40, -1073741819].map(exitWords), [
    'exit code 3',
    'exit code 0',
    'ended by SIGTERM',
    'ended by SIGKILL',
    'ended by signal 40',
    'exit code -1073741819',
  ])
})

test('what the machine tells beside the end is said, the end itself not twice', () => {
  const left = '1 of its processes went on: 4711'
  assert.equal(endingWords({ ...ended, result: `ended with exit code 1; ${left}` }, 0), `exit code 1 · 0.4 s · ${left}`)
  assert.equal(endingWords({ ...ended, result: 'ended with exit code 1' }, 0), 'exit code 1 · 0.4 s')
  const beside = (status: 'COMPLETED' | 'FAILED' | 'CANCELLED', reason: CommandReason | null, result: string) => besideWords({ status, reason, result })
  assert.equal(beside('COMPLETED', null, `ended with exit code 0; ${left}`), left)
  assert.equal(beside('COMPLETED', null, 'SIGTERM was sent to process 4711'), 'SIGTERM was sent to process 4711')
  assert.equal(beside('CANCELLED', 'cancelled_by_person', 'killed: a person cancelled it; 1 of its processes did not end: 7'), '1 of its processes did not end: 7')
  assert.equal(beside('FAILED', 'denied_by_agent', 'not now; ask later'), '')
  assert.equal(beside('FAILED', 'expired', 'the order expired while it waited for its turn; it has not run'), '')
})

test('who is stopped from outside is not told the signal', () => {
  assert.equal(endingWords({ ...ended, reason: 'timeout', exitCode: -15 }, 0), 'timeout after 1 min · 0.4 s')
  assert.equal(endingWords({ ...ended, status: 'CANCELLED', reason: 'cancelled_by_person', exitCode: -15 }, 0), 'cancelled · 0.4 s')
  assert.equal(endingWords({ ...ended, reason: 'timeout', exitCode: 7 }, 0), 'exit code 7 · timeout after 1 min · 0.4 s')
  assert.equal(endingWords({ ...ended, exitCode: -11 }, 0), 'ended by SIGSEGV · 0.4 s')
})

test('the time it took is always told the same way', () => {
  const at = (finishedAt: string) => endingWords({ ...ended, finishedAt }, 0)
  assert.equal(at('2026-03-01T12:00:00.000Z'), 'exit code 1 · under 0.1 s')
  assert.equal(at('2026-03-01T11:59:59.000Z'), 'exit code 1 · under 0.1 s')
  assert.equal(at('2026-03-01T12:01:05.900Z'), 'exit code 1 · 1 min 5 s')
  assert.equal(endingWords({ ...ended, startedAt: null, exitCode: null, reason: 'start_failed', result: 'no such file' }, 0), 'could not be started: no such file')
})

test('what still runs counts up in whole seconds', () => {
  const running = { ...ended, status: 'EXECUTING', reason: null, exitCode: null, finishedAt: null } as const
  assert.equal(endingWords(running, Date.parse('2026-03-01T12:00:03.700Z')), '3 s')
})

test('lists mark only what the status does not say', () => {
  assert.equal(endingMark('FAILED', 'exit_code', 3), '3')
  assert.equal(endingMark('FAILED', 'exit_code', -9), 'SIGKILL')
  assert.equal(endingMark('FAILED', 'timeout', -15), 'timeout')
  assert.deepEqual([endingMark('FAILED', 'expired', null), endingMark('FAILED', 'denied_by_agent', null)], ['expired', 'denied'])
  assert.equal(endingMark('CANCELLED', 'cancelled_by_person', -15), '')
  assert.equal(endingMark('COMPLETED', null, 0), '')
})

test('what of the output is kept is said where it is not all', () => {
  const longer = { ...ended, reason: null, exitCode: 0, truncated: true, outputBytes: { stdout: 100 * 1024 * 1024, stderr: 0 }, keptBytes: { stdout: 1024 * 1024, stderr: 0 } } as const
  assert.equal(endingWords(longer, 0), 'exit code 0 · 0.4 s · of 100 MiB of output 1.00 MiB are kept')
  assert.equal(endingWords({ ...longer, outputBytes: {}, keptBytes: {} }, 0), 'exit code 0 · 0.4 s · the output was longer than what is kept')
})

test('why a job did not run, or how nobody knows its end, is said in words', () => {
  const why = (reason: 'denied_by_agent' | 'interrupted' | 'expired' | 'timeout', result = '', timeoutSec: number | null = 45) => reasonWords({ reason, result, timeoutSec })
  assert.equal(why('denied_by_agent', 'refused by the rule action'), 'denied by the machine’s policy: refused by the rule action')
  assert.equal(why('interrupted', 'whatever'), 'interrupted: nobody can say how it ended')
  assert.equal(why('expired'), 'expired before the machine could take it')
  assert.equal(why('expired', 'it waited for its turn too long'), 'it waited for its turn too long')
  assert.deepEqual([why('timeout'), why('timeout', '', null)], ['timeout after 45 s', 'timeout'])
})
