import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type History, LiveEnd, emptyHistory, forgetBefore, withGaps } from './history.ts'

function historyOf(times: number[], resolutionSec = 0): History {
  return { times: [...times], values: { cpu: times.map((_, index) => index) }, resolutionSec }
}

test('missing points are drawn as a gap', () => {
  const [seconds, cpu] = withGaps(historyOf([0, 10_000, 20_000, 80_000, 90_000]), ['cpu'])
  assert.deepEqual(seconds, [0, 10, 20, 50, 80, 90])
  assert.deepEqual(cpu, [0, 1, 2, null, 3, 4])
})

test('a late sample is no gap', () => {
  const [seconds] = withGaps(historyOf([0, 10_000, 31_000, 41_000, 51_000]), ['cpu'])
  assert.equal(seconds.length, 5)
})

test('an unknown metric is all null', () => {
  assert.deepEqual(withGaps(historyOf([0, 1]), ['disk'])[1], [null, null])
})

test('raw samples are appended once and in order', () => {
  const history = historyOf([10_000])
  const end = new LiveEnd()
  assert.equal(end.append(history, 20_000, { cpu: 7, other: 1 }), true)
  assert.equal(end.append(history, 20_000, { cpu: 8 }), false)
  assert.equal(end.append(history, 5_000, { cpu: 9 }), false)
  assert.deepEqual(history, { times: [10_000, 20_000], values: { cpu: [0, 7] }, resolutionSec: 0 })
})

test('in buckets live samples are averaged', () => {
  const history = historyOf([0], 60)
  const end = new LiveEnd()
  end.append(history, 61_000, { cpu: 10 })
  end.append(history, 71_000, { cpu: 20 })
  end.append(history, 81_000, { cpu: 'broken' })
  assert.deepEqual(history.times, [0, 60_000])
  assert.deepEqual(history.values.cpu, [0, 15])
})

test('what lies before the window is forgotten but for one point', () => {
  const history = historyOf([0, 10, 20, 30, 40])
  forgetBefore(history, 25)
  assert.deepEqual(history.times, [20, 30, 40])
  assert.deepEqual(history.values.cpu, [2, 3, 4])
})

test('an empty history has a column per metric', () => {
  assert.deepEqual(withGaps(emptyHistory(['cpu']), ['cpu']), [[], []])
})
