import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NO_FILTER, type Route, addressOf, fleetAddress, machineAddress, routeOf } from './routes.ts'

const ROUTES: Exclude<Route, { page: 'unknown' }>[] = [
  { page: 'fleet', query: NO_FILTER },
  { page: 'fleet', query: { text: 'a&b =?', status: ['OFFLINE', 'ERROR'], tags: ['x/y', 'ü'], site: 'Wien', sort: '-cpu', page: 3 } },
  { page: 'machine', agentId: 'a/b c', window: { range: '7d' }, commandId: null },
  { page: 'machine', agentId: 'x', window: { fromMs: 5, toMs: 9 }, commandId: 'c1' },
  { page: 'alerts', resolved: true, pageNumber: 2 },
  { page: 'commands', status: 'RUNNING', pageNumber: 1 },
]

test('every route is found again from its address', () => {
  for (const route of ROUTES) assert.deepEqual(routeOf(addressOf(route)), route)
})

test('an empty address is the fleet', () => {
  for (const hash of ['', '#', '#/']) assert.deepEqual(routeOf(hash), { page: 'fleet', query: NO_FILTER })
})

test('nonsense in the address falls back to the default', () => {
  assert.deepEqual(routeOf('#/?status=BAD&sort=;drop&page=-4'), { page: 'fleet', query: NO_FILTER })
  assert.deepEqual(routeOf('#/machines/%E0%A4%A'), { page: 'machine', agentId: '%E0%A4%A', window: { range: '1h' }, commandId: null })
  assert.deepEqual(routeOf('#/nowhere'), { page: 'unknown' })
  assert.deepEqual(routeOf('#/alerts/x'), { page: 'unknown' })
})

test('short addresses stay short', () => {
  assert.equal(fleetAddress(), '#/')
  assert.equal(fleetAddress({ status: ['OFFLINE'] }), '#/?status=OFFLINE')
  assert.equal(machineAddress('7'), '#/machines/7')
})
