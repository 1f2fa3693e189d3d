import assert from 'node:assert/strict'
import { test } from 'node:test'
import { figureOf, hubVitals, queueWords, troubleOf } from './vitals.ts'

const WELL = { agents_connected: 3, loop_lag_p99_ms: 4.2, bus_buffered_recorder: 2, bus_buffered_alerts: 1, bus_dropped_total_live_feed: 90, bus_dropped_total_alerts: 1, frames_refused: 2, commits_failed: 0 }
const valueOf = (word: string, figures: Record<string, number>) => hubVitals(figures, WELL).find((one) => one.word === word)?.value

test('queues and losses are added up, but for what only shows the newest', () => {
  assert.equal(valueOf('Events waiting', WELL), '3')
  assert.equal(valueOf('Dropped since the start', WELL), '3')
  assert.equal(valueOf('Loop lag p99', WELL), '4.2 ms')
})

test('what the hub does not tell is left out', () => {
  assert.deepEqual([valueOf('Issuing certificate', WELL), valueOf('Commit p99', WELL)], [undefined, undefined])
  assert.equal(valueOf('Issuing certificate', { ...WELL, issuing_authority_days: 12.6 }), '12 d left')
  assert.equal(valueOf('Commit p99', { ...WELL, commit_p99_seconds: 0.042 }), '42 ms')
})

test('nothing is wrong until a figure is, and a count only while it rises', () => {
  assert.equal(troubleOf(hubVitals(WELL, WELL)), '')
  assert.equal(troubleOf(hubVitals({ ...WELL, commits_failed: 1 }, null)), '')
  assert.equal(troubleOf(hubVitals({ ...WELL, loop_lag_p99_ms: 900, commits_failed: 1 }, WELL)), 'the hub answers late; the store fails: samples wait at the agents')
  assert.equal(troubleOf(hubVitals({ ...WELL, frames_refused: 3 }, WELL)), 'something was dropped just now')
})

test('a figure has the unit of its name', () => {
  assert.deepEqual(
    [figureOf('loop_lag_max_ms', 1200), figureOf('gc_longest_seconds', 0.0019), figureOf('rss_bytes', 2048), figureOf('gc_seconds_total_0', 2), figureOf('samples_stored', 7), figureOf('cpu_percent', 7.48), figureOf('share', 0.126)],
    ['1.2 s', '1.9 ms', '2.00 KiB', '2.0 s', '7', '7.5%', '0.13'],
  )
})

test('a queue is called by who listens', () => {
  assert.equal(queueWords('bus_buffered_live_feed'), 'live feed')
})
