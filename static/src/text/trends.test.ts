import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NO_FILTER } from '../state/routes.ts'
import { filterWords, groupFilter, groupWords, summaryOf, trendsCsv } from './trends.ts'

const series = (cpu: (number | null)[], low: number[] = [], high: number[] = []) => ({
  agentId: '',
  timestamps: cpu.map((_, at) => at * 1000),
  values: { cpu },
  minima: low.length > 0 ? { cpu: low } : {},
  maxima: high.length > 0 ? { cpu: high } : {},
  group: 'Bern',
  agents: 2,
})

test('a group without a name is said to have none', () => {
  assert.deepEqual([groupWords('all', ''), groupWords('site', ''), groupWords('tag', 'web'), groupWords('os', 'linux')], ['All machines', 'No site', 'web', 'Linux'])
})

test('the fleet is narrowed to a group where a filter can', () => {
  assert.deepEqual([groupFilter('all', ''), groupFilter('site', 'Bern'), groupFilter('site', ''), groupFilter('tag', 'web'), groupFilter('os', 'linux')], [{}, { site: 'Bern' }, null, { tags: ['web'] }, null])
})

test('a filter is told in words', () => {
  assert.equal(filterWords(NO_FILTER), '')
  assert.equal(filterWords({ ...NO_FILTER, text: ' web ', status: ['OFFLINE', 'ERROR'], tags: ['a'], site: 'Bern' }), '“web”, offline or error, tag a, site Bern')
})

test('a line is summed up by what single machines reached, where that is told', () => {
  assert.deepEqual(summaryOf(series([10, null, 20]), 'cpu'), { newest: 20, mean: 15, lowest: 10, highest: 20 })
  assert.deepEqual(summaryOf(series([10, 20], [1, 5], [50, 90]), 'cpu'), { newest: 20, mean: 15, lowest: 1, highest: 90 })
  assert.deepEqual(summaryOf(series([null]), 'cpu'), { newest: null, mean: null, lowest: null, highest: null })
})

test('every point of a group is a line of CSV', () => {
  assert.equal(trendsCsv([series([1, null], [0, 0], [2, 2])], 'site', 'cpu'), 'at,group,machines,cpu,lowest,highest\r\n1970-01-01T00:00:00.000Z,Bern,2,1,0,2\r\n1970-01-01T00:00:01.000Z,Bern,2,,0,2\r\n')
})
