import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type History, LiveEnd, asRates, emptyHistory, forgetBefore, historyOf, historyOfGroups, withGaps } from './history.ts'

function madeOf(times: number[], resolutionSec = 0): History {
  return { ...emptyHistory([]), times: [...times], values: { cpu: times.map((_, index) => index) }, resolutionSec }
}

const drawn = (history: History, line: string) => withGaps(history.times, [history.values[line]])

test('missing points are drawn as a gap', () => {
  const [seconds, cpu] = drawn(madeOf([0, 10_000, 20_000, 80_000, 90_000]), 'cpu')
  assert.deepEqual(seconds, [0, 10, 20, 50, 80, 90])
  assert.deepEqual(cpu, [0, 1, 2, null, 3, 4])
})

test('a late sample is no gap', () => {
  const [seconds] = drawn(madeOf([0, 10_000, 31_000, 41_000, 51_000]), 'cpu')
  assert.equal(seconds.length, 5)
})

test('an unknown line is all null', () => {
  assert.deepEqual(drawn(madeOf([0, 1]), 'disk')[1], [null, null])
})

test('raw samples are appended once and in order', () => {
  const history = madeOf([10_000])
  const end = new LiveEnd()
  assert.equal(end.append(history, 20_000, { cpu: 7, other: 1 }), true)
  assert.equal(end.append(history, 20_000, { cpu: 8 }), false)
  assert.equal(end.append(history, 5_000, { cpu: 9 }), false)
  assert.deepEqual(history.times, [10_000, 20_000])
  assert.deepEqual(history.values, { cpu: [0, 7] })
})

test('in buckets live samples are averaged, and widen the band', () => {
  const history = { ...madeOf([0], 60), minima: { cpu: [0] }, maxima: { cpu: [1] } }
  const end = new LiveEnd()
  end.append(history, 61_000, { cpu: 10 })
  end.append(history, 71_000, { cpu: 20 })
  end.append(history, 81_000, { cpu: 'broken' })
  assert.deepEqual(history.times, [0, 60_000])
  assert.deepEqual(history.values.cpu, [0, 15])
  assert.deepEqual([history.minima.cpu, history.maxima.cpu], [[0, 10], [1, 20]])
})

test('what lies before the window is forgotten but for one point', () => {
  const history = { ...madeOf([0, 10, 20, 30, 40]), minima: { cpu: [9, 8, 7, 6, 5] } }
  forgetBefore(history, 25)
  assert.deepEqual(history.times, [20, 30, 40])
  assert.deepEqual([history.values.cpu, history.minima.cpu], [[2, 3, 4], [7, 6, 5]])
})

const series = (group: string, timestamps: number[], cpu: number[]) => ({ agentId: '', timestamps, values: { cpu }, minima: {}, maxima: {}, group, agents: 1 })

test('an answer without the machine is a history without points', () => {
  const history = historyOf({ series: [], resolution: '5m', resolutionSec: 600 }, ['cpu'])
  assert.deepEqual([history.times, history.values, history.resolutionSec, history.resolution], [[], { cpu: [] }, 600, '5m'])
})

test('a metric that the answer lacks is null at every point', () => {
  assert.deepEqual(historyOf({ series: [series('', [1, 2], [3, 4])], resolution: 'raw', resolutionSec: 0 }, ['cpu', 'disk']).values, { cpu: [3, 4], disk: [null, null] })
})

test('groups share their times, and a bucket that one of them lacks is null there', () => {
  const history = historyOfGroups({ series: [series('Bern', [10, 30], [1, 3]), series('', [20], [2])], resolution: '1m', resolutionSec: 60 }, 'cpu', 2)
  assert.deepEqual(history.times, [10, 20, 30])
  assert.deepEqual(history.values, { Bern: [1, null, 3], '': [null, 2, null] })
  assert.deepEqual(history.minima, {})
  assert.deepEqual(historyOfGroups({ series: [series('', [20], [2])], resolution: '1m', resolutionSec: 60 }, 'cpu', 2).minima, { '': [null] })
})

test('the largest groups are drawn, and all are told', () => {
  const [small, large] = [series('small', [10], [1]), { ...series('large', [20], [2]), agents: 9 }]
  const history = historyOfGroups({ series: [small, large], resolution: '1m', resolutionSec: 60 }, 'cpu', 1)
  assert.deepEqual([history.times, history.values], [[20], { large: [2] }])
  assert.deepEqual(history.groups, [large, small])
})

test('what only rises is shown by the second, and a new start is no fall', () => {
  const history = { ...madeOf([0, 10_000, 20_000, 30_000]), values: { stored: [100, 150, 5, 25] }, minima: { stored: [1, 1, 1, 1] } }
  const rated = asRates(history, ['stored', 'other'])
  assert.deepEqual(rated.values, { stored: [null, 5, null, 2] })
  assert.deepEqual(rated.minima, {})
})
