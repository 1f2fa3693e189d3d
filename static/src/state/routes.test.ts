import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ANY_ENTRY, ANY_JOB, NO_FILTER, type Route, addressOf, auditAddress, fleetAddress, machineAddress, machineRoute, routeOf } from './routes.ts'

const ROUTES: Exclude<Route, { page: 'unknown' }>[] = [
  { page: 'fleet', query: NO_FILTER },
  { page: 'fleet', query: { text: 'a&b =?', status: ['OFFLINE', 'ERROR'], tags: ['x/y', 'ü'], site: 'Wien', sort: '-cpu', page: 3 } },
  { ...machineRoute('a/b c'), window: { range: '7d' } },
  { ...machineRoute('x'), window: { fromMs: 5, toMs: 9 }, commandId: 'c1', opened: 'disk./srv&x' },
  { ...machineRoute('x'), part: 'packages', text: 'lib ssl', pageNumber: 3 },
  { page: 'trends', metric: 'cpu_percent', groupBy: 'all', window: { range: '1h' }, query: NO_FILTER },
  { page: 'trends', metric: 'disk_percent', groupBy: 'site', window: { range: '1y' }, query: { ...NO_FILTER, tags: ['web'] } },
  { page: 'hub', window: { range: '24h' } },
  { page: 'alerts', resolved: true, pageNumber: 2 },
  { page: 'jobs', query: { status: 'RUNNING', agentId: 'a b', by: 'ada', sinceMs: 5 }, pageNumber: 2 },
  { page: 'jobs', query: ANY_JOB, pageNumber: 1 },
  { page: 'job', commandId: 'a/b' },
  { page: 'joining', show: 'tokens', pageNumber: 2 },
  { page: 'joining', show: 'keys', pageNumber: 1 },
  { page: 'people', show: 'roles', pageNumber: 1 },
  { page: 'certificates', state: 'current', pageNumber: 1 },
  { page: 'certificates', state: null, pageNumber: 3 },
  { page: 'certificates', state: 'revoked', pageNumber: 1 },
  { page: 'policies', show: 'policies', policyId: null, state: null, pageNumber: 1 },
  { page: 'policies', show: 'compliance', policyId: 'a&b', state: 'failed', pageNumber: 2 },
  { page: 'audit', query: { text: 'a b', actor: 'user:ä&b', action: 'users:*', target: 'agent:x/y', fromMs: 1, toMs: 2 }, pageNumber: 2 },
  { page: 'audit', query: ANY_ENTRY, pageNumber: 1 },
  { page: 'security' },
]

test('every route is found again from its address', () => {
  for (const route of ROUTES) assert.deepEqual(routeOf(addressOf(route)), route)
})

test('an empty address is the fleet', () => {
  for (const hash of ['', '#', '#/']) assert.deepEqual(routeOf(hash), { page: 'fleet', query: NO_FILTER })
})

test('nonsense in the address falls back to the default', () => {
  assert.deepEqual(routeOf('#/?status=BAD&sort=;drop&page=-4'), { page: 'fleet', query: NO_FILTER })
  assert.deepEqual(routeOf('#/machines/%E0%A4%A'), machineRoute('%E0%A4%A'))
  assert.deepEqual(routeOf('#/nowhere'), { page: 'unknown' })
  assert.deepEqual(routeOf('#/certificates?state=x&page=0'), { page: 'certificates', state: 'current', pageNumber: 1 })
  assert.deepEqual(routeOf('#/audit?from=x&to=-1'), { page: 'audit', query: ANY_ENTRY, pageNumber: 1 })
  assert.deepEqual(routeOf('#/alerts/x'), { page: 'unknown' })
  assert.deepEqual(routeOf('#/commands?status=RUNNING&since=x'), { page: 'jobs', query: { ...ANY_JOB, status: 'RUNNING' }, pageNumber: 1 })
})

test('short addresses stay short', () => {
  assert.equal(fleetAddress(), '#/')
  assert.equal(fleetAddress({ status: ['OFFLINE'] }), '#/?status=OFFLINE')
  assert.equal(auditAddress({ target: 'agent:7' }), '#/audit?target=agent%3A7')
  assert.equal(machineAddress('7'), '#/machines/7')
})
