import type { AgentStatus, AgentsList, CommandStatus } from '../generated/protocol'

export type Sort = NonNullable<AgentsList['sort']>
export type RangeName = '15m' | '1h' | '6h' | '24h' | '7d'

export interface FleetQuery {
  text: string
  status: AgentStatus[]
  tags: string[]
  site: string
  sort: Sort
  page: number
}

export type ChartWindow = { range: RangeName } | { fromMs: number; toMs: number }

/** Where the person is: the whole of it stands in the address. */
export type Route =
  | { page: 'fleet'; query: FleetQuery }
  | { page: 'machine'; agentId: string; window: ChartWindow; commandId: string | null }
  | { page: 'alerts'; resolved: boolean; pageNumber: number }
  | { page: 'commands'; status: CommandStatus | 'RUNNING' | null; pageNumber: number }
  | { page: 'unknown' }

export const STATUSES: readonly AgentStatus[] = ['ACTIVE', 'OFFLINE', 'ERROR', 'MAINTENANCE']
export const COMMAND_STATUSES: readonly CommandStatus[] = ['PENDING', 'SENT', 'EXECUTING', 'COMPLETED', 'FAILED', 'CANCELLED']
export const RANGES: readonly RangeName[] = ['15m', '1h', '6h', '24h', '7d']
const SORT_KEYS = ['name', 'lastSeen', 'cpu', 'memory', 'disk', 'status'] as const
export const NO_FILTER: FleetQuery = { text: '', status: [], tags: [], site: '', sort: 'name', page: 1 }

export function routeOf(hash: string): Route {
  const [path = '', search = ''] = hash.replace(/^#?\/?/, '').split('?', 2)
  const given = new URLSearchParams(search)
  const [head, id, ...rest] = path.split('/')
  if (rest.length > 0) return { page: 'unknown' }
  if (head === '' && id === undefined) return { page: 'fleet', query: fleetQueryOf(given) }
  if (head === 'machines' && id) return machineOf(decoded(id), given)
  if (id !== undefined) return { page: 'unknown' }
  if (head === 'alerts') return { page: 'alerts', resolved: given.has('resolved'), pageNumber: pageOf(given) }
  if (head === 'commands') {
    return { page: 'commands', status: oneOf(given.get('status'), [...COMMAND_STATUSES, 'RUNNING' as const]), pageNumber: pageOf(given) }
  }
  return { page: 'unknown' }
}

function fleetQueryOf(given: URLSearchParams): FleetQuery {
  return {
    text: given.get('q') ?? '',
    status: given.getAll('status').filter((word): word is AgentStatus => (STATUSES as string[]).includes(word)),
    tags: given.getAll('tag'),
    site: given.get('site') ?? '',
    sort: sortOf(given.get('sort')),
    page: pageOf(given),
  }
}

function machineOf(agentId: string, given: URLSearchParams): Route {
  const fromMs = Number(given.get('from'))
  const toMs = Number(given.get('to'))
  const window: ChartWindow =
    fromMs > 0 && toMs > fromMs ? { fromMs, toMs } : { range: oneOf(given.get('range'), RANGES) ?? '1h' }
  return { page: 'machine', agentId, window, commandId: given.get('command') }
}

function sortOf(word: string | null): Sort {
  const key = word?.replace(/^-/, '')
  return SORT_KEYS.some((known) => known === key) ? (word as Sort) : 'name'
}

function pageOf(given: URLSearchParams): number {
  const page = Number(given.get('page') ?? '1')
  return Number.isInteger(page) && page > 0 ? page : 1
}

function oneOf<T extends string>(word: string | null, known: readonly T[]): T | null {
  return known.find((one) => one === word) ?? null
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

export function addressOf(route: Exclude<Route, { page: 'unknown' }>): string {
  const search = new URLSearchParams()
  let path = '#/'
  if (route.page === 'fleet') {
    const { query } = route
    if (query.text !== '') search.set('q', query.text)
    for (const status of query.status) search.append('status', status)
    for (const tag of query.tags) search.append('tag', tag)
    if (query.site !== '') search.set('site', query.site)
    if (query.sort !== 'name') search.set('sort', query.sort)
    setPage(search, query.page)
  } else if (route.page === 'machine') {
    path = `#/machines/${encodeURIComponent(route.agentId)}`
    if ('range' in route.window) {
      if (route.window.range !== '1h') search.set('range', route.window.range)
    } else {
      search.set('from', String(route.window.fromMs))
      search.set('to', String(route.window.toMs))
    }
    if (route.commandId !== null) search.set('command', route.commandId)
  } else {
    path = `#/${route.page}`
    if (route.page === 'alerts' && route.resolved) search.set('resolved', '1')
    if (route.page === 'commands' && route.status !== null) search.set('status', route.status)
    setPage(search, route.pageNumber)
  }
  const tail = search.toString()
  return tail === '' ? path : `${path}?${tail}`
}

function setPage(search: URLSearchParams, page: number): void {
  if (page > 1) search.set('page', String(page))
}

export function fleetAddress(changes: Partial<FleetQuery> = {}): string {
  return addressOf({ page: 'fleet', query: { ...NO_FILTER, ...changes } })
}

export function machineAddress(agentId: string): string {
  return addressOf({ page: 'machine', agentId, window: { range: '1h' }, commandId: null })
}
