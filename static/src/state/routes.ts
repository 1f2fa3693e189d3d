import type { AgentStatus, AgentsList, CertificateState, CheckState, CommandStatus } from '../generated/protocol'

export type Sort = NonNullable<AgentsList['sort']>
export type RangeName = '15m' | '1h' | '6h' | '24h' | '7d' | '30d' | '1y'

export interface FleetQuery {
  text: string
  status: AgentStatus[]
  tags: string[]
  site: string
  sort: Sort
  page: number
}

export type ChartWindow = { range: RangeName } | { fromMs: number; toMs: number }

/** What the trends are drawn of: a metric of the type `system`. */
export type TrendMetric = 'cpu_percent' | 'memory_percent' | 'disk_percent' | 'network_recv_bytes_per_sec' | 'network_sent_bytes_per_sec'
export type TrendGrouping = 'all' | 'site' | 'os' | 'tag'
/** `live`: charts and newest values; the next three are the inventory; `reports`: what its agent said of itself. */
export type MachinePart = 'live' | 'inventory' | 'packages' | 'services' | 'reports'

/** One machine. `opened` is the metric type whose charts are unfolded; `text` searches a list of the inventory. */
export interface MachineRoute {
  page: 'machine'
  agentId: string
  part: MachinePart
  window: ChartWindow
  opened: string | null
  commandId: string | null
  text: string
  pageNumber: number
}

/** Which jobs are listed; empty and null mean any. `by`: who asked, a person by the bare name. */
export interface JobsQuery {
  status: CommandStatus | 'RUNNING' | null
  agentId: string
  by: string
  sinceMs: number | null
}

/** What the audit is searched for; empty and null mean any. `fromMs` included, `toMs` excluded. */
export interface AuditQuery {
  text: string
  actor: string
  action: string
  target: string
  fromMs: number | null
  toMs: number | null
}

/** Policies, or what their checks found: of one policy or all, in one state or any. */
export interface PoliciesRoute {
  page: 'policies'
  show: 'policies' | 'compliance'
  policyId: string | null
  state: CheckState | null
  pageNumber: number
}

/** Where the person is: the whole of it stands in the address. */
export type Route =
  | { page: 'fleet'; query: FleetQuery }
  | MachineRoute
  | { page: 'trends'; metric: TrendMetric; groupBy: TrendGrouping; window: ChartWindow; query: FleetQuery }
  | { page: 'hub'; window: ChartWindow }
  | { page: 'alerts'; resolved: boolean; pageNumber: number }
  | { page: 'jobs'; query: JobsQuery; pageNumber: number }
  | { page: 'job'; commandId: string }
  | { page: 'joining'; show: JoiningList; pageNumber: number }
  | { page: 'people'; show: PeopleList; pageNumber: number }
  | { page: 'certificates'; state: CertificateState | null; pageNumber: number }
  | PoliciesRoute
  | { page: 'audit'; query: AuditQuery; pageNumber: number }
  | { page: 'security' }
  | { page: 'unknown' }

export type KnownRoute = Exclude<Route, { page: 'unknown' }>
export type JoiningList = 'tokens' | 'keys'
export type PeopleList = 'users' | 'roles' | 'keys'

export const STATUSES: readonly AgentStatus[] = ['ACTIVE', 'OFFLINE', 'ERROR', 'MAINTENANCE']
export const COMMAND_STATUSES: readonly CommandStatus[] = ['PENDING', 'SENT', 'EXECUTING', 'COMPLETED', 'FAILED', 'CANCELLED']
export const RANGES: readonly RangeName[] = ['15m', '1h', '6h', '24h', '7d', '30d', '1y']
export const MACHINE_PARTS: readonly MachinePart[] = ['live', 'inventory', 'packages', 'services', 'reports']
export const TREND_METRICS: readonly TrendMetric[] = ['cpu_percent', 'memory_percent', 'disk_percent', 'network_recv_bytes_per_sec', 'network_sent_bytes_per_sec']
export const TREND_GROUPINGS: readonly TrendGrouping[] = ['all', 'site', 'os', 'tag']
export const CERTIFICATE_STATES: readonly CertificateState[] = ['current', 'superseded', 'revoked', 'expired']
export const CHECK_STATES: readonly CheckState[] = ['failed', 'unknown', 'passed']
const ANY_CERTIFICATE = 'all'
const SORT_KEYS = ['name', 'lastSeen', 'cpu', 'memory', 'disk', 'status'] as const
export const NO_FILTER: FleetQuery = { text: '', status: [], tags: [], site: '', sort: 'name', page: 1 }

export const ANY_JOB: JobsQuery = { status: null, agentId: '', by: '', sinceMs: null }
export const ANY_ENTRY: AuditQuery = { text: '', actor: '', action: '', target: '', fromMs: null, toMs: null }

export function routeOf(hash: string): Route {
  const [path = '', search = ''] = hash.replace(/^#?\/?/, '').split('?', 2)
  const given = new URLSearchParams(search)
  const [head, id, ...rest] = path.split('/')
  if (rest.length > 0) return { page: 'unknown' }
  if (head === '' && id === undefined) return { page: 'fleet', query: fleetQueryOf(given) }
  if (head === 'machines' && id) return machineOf(decoded(id), given)
  if (head === 'jobs' && id) return { page: 'job', commandId: decoded(id) }
  if (id !== undefined) return { page: 'unknown' }
  return head === undefined ? { page: 'unknown' } : listOf(head, given)
}

function listOf(head: string, given: URLSearchParams): Route {
  const pageNumber = pageOf(given)
  switch (head) {
    case 'alerts':
      return { page: 'alerts', resolved: given.has('resolved'), pageNumber }
    case 'jobs':
    case 'commands': // its name before
      return { page: 'jobs', query: jobsQueryOf(given), pageNumber }
    case 'joining':
      return { page: 'joining', show: oneOf(given.get('show'), ['tokens', 'keys']) ?? 'tokens', pageNumber }
    case 'people':
      return { page: 'people', show: oneOf(given.get('show'), ['users', 'roles', 'keys']) ?? 'users', pageNumber }
    case 'certificates': {
      const state = given.get('state')
      return { page: 'certificates', state: state === ANY_CERTIFICATE ? null : (oneOf(state, CERTIFICATE_STATES) ?? 'current'), pageNumber }
    }
    case 'policies':
      return {
        page: 'policies',
        show: oneOf(given.get('show'), ['policies', 'compliance']) ?? 'policies',
        policyId: given.get('policy'),
        state: oneOf(given.get('state'), CHECK_STATES),
        pageNumber,
      }
    case 'audit':
      return { page: 'audit', query: auditQueryOf(given), pageNumber }
    case 'security':
      return { page: 'security' }
    case 'hub':
      return { page: 'hub', window: windowOf(given) }
    case 'trends':
      return {
        page: 'trends',
        metric: oneOf(given.get('metric'), TREND_METRICS) ?? 'cpu_percent',
        groupBy: oneOf(given.get('by'), TREND_GROUPINGS) ?? 'all',
        window: windowOf(given),
        query: fleetQueryOf(given),
      }
    default:
      return { page: 'unknown' }
  }
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
  return {
    page: 'machine',
    agentId,
    part: oneOf(given.get('show'), MACHINE_PARTS) ?? 'live',
    window: windowOf(given),
    opened: given.get('open'),
    commandId: given.get('command'),
    text: given.get('q') ?? '',
    pageNumber: pageOf(given),
  }
}

function windowOf(given: URLSearchParams): ChartWindow {
  const fromMs = Number(given.get('from'))
  const toMs = Number(given.get('to'))
  return fromMs > 0 && toMs > fromMs ? { fromMs, toMs } : { range: oneOf(given.get('range'), RANGES) ?? '1h' }
}

function auditQueryOf(given: URLSearchParams): AuditQuery {
  return {
    text: given.get('q') ?? '',
    actor: given.get('actor') ?? '',
    action: given.get('action') ?? '',
    target: given.get('target') ?? '',
    fromMs: timeIn(given, 'from'),
    toMs: timeIn(given, 'to'),
  }
}

function jobsQueryOf(given: URLSearchParams): JobsQuery {
  return {
    status: oneOf(given.get('status'), [...COMMAND_STATUSES, 'RUNNING' as const]),
    agentId: given.get('machine') ?? '',
    by: given.get('by') ?? '',
    sinceMs: timeIn(given, 'since'),
  }
}

function timeIn(given: URLSearchParams, name: string): number | null {
  const ms = Number(given.get(name))
  return Number.isSafeInteger(ms) && ms > 0 ? ms : null
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

export function addressOf(route: KnownRoute): string {
  const path = pathOf(route)
  const tail = searchOf(route).toString()
  return tail === '' ? path : `${path}?${tail}`
}

function pathOf(route: KnownRoute): string {
  switch (route.page) {
    case 'fleet':
      return '#/'
    case 'machine':
      return `#/machines/${encodeURIComponent(route.agentId)}`
    case 'job':
      return jobAddress(route.commandId)
    default:
      return `#/${route.page}`
  }
}

function searchOf(route: KnownRoute): URLSearchParams {
  const search = new URLSearchParams()
  switch (route.page) {
    case 'fleet':
      setFleetQuery(search, route.query)
      break
    case 'machine':
      if (route.part !== 'live') search.set('show', route.part)
      setWindow(search, route.window)
      if (route.opened !== null) search.set('open', route.opened)
      if (route.commandId !== null) search.set('command', route.commandId)
      if (route.text !== '') search.set('q', route.text)
      break
    case 'trends':
      if (route.metric !== 'cpu_percent') search.set('metric', route.metric)
      if (route.groupBy !== 'all') search.set('by', route.groupBy)
      setWindow(search, route.window)
      setFleetQuery(search, route.query)
      break
    case 'hub':
      setWindow(search, route.window)
      break
    case 'alerts':
      if (route.resolved) search.set('resolved', '1')
      break
    case 'jobs':
      setJobsQuery(search, route.query)
      break
    case 'joining':
      if (route.show !== 'tokens') search.set('show', route.show)
      break
    case 'people':
      if (route.show !== 'users') search.set('show', route.show)
      break
    case 'certificates':
      if (route.state !== 'current') search.set('state', route.state ?? ANY_CERTIFICATE)
      break
    case 'policies':
      if (route.show !== 'policies') search.set('show', route.show)
      if (route.policyId !== null) search.set('policy', route.policyId)
      if (route.state !== null) search.set('state', route.state)
      break
    case 'audit':
      setAuditQuery(search, route.query)
      break
    case 'job':
    case 'security':
  }
  if ('pageNumber' in route) setPage(search, route.pageNumber)
  return search
}

function setFleetQuery(search: URLSearchParams, query: FleetQuery): void {
  if (query.text !== '') search.set('q', query.text)
  for (const status of query.status) search.append('status', status)
  for (const tag of query.tags) search.append('tag', tag)
  if (query.site !== '') search.set('site', query.site)
  if (query.sort !== 'name') search.set('sort', query.sort)
  setPage(search, query.page)
}

function setWindow(search: URLSearchParams, window: ChartWindow): void {
  if ('range' in window) {
    if (window.range !== '1h') search.set('range', window.range)
  } else {
    search.set('from', String(window.fromMs))
    search.set('to', String(window.toMs))
  }
}

function setAuditQuery(search: URLSearchParams, { text, actor, action, target, fromMs, toMs }: AuditQuery): void {
  for (const [name, value] of Object.entries({ q: text, actor, action, target })) if (value !== '') search.set(name, value)
  if (fromMs !== null) search.set('from', String(fromMs))
  if (toMs !== null) search.set('to', String(toMs))
}

function setJobsQuery(search: URLSearchParams, { status, agentId, by, sinceMs }: JobsQuery): void {
  if (status !== null) search.set('status', status)
  if (agentId !== '') search.set('machine', agentId)
  if (by !== '') search.set('by', by)
  if (sinceMs !== null) search.set('since', String(sinceMs))
}

function setPage(search: URLSearchParams, page: number): void {
  if (page > 1) search.set('page', String(page))
}

export function fleetAddress(changes: Partial<FleetQuery> = {}): string {
  return addressOf({ page: 'fleet', query: { ...NO_FILTER, ...changes } })
}

export function machineAddress(agentId: string): string {
  return addressOf(machineRoute(agentId))
}

/** The page of a machine as it is opened. */
export function machineRoute(agentId: string): MachineRoute {
  return { page: 'machine', agentId, part: 'live', window: { range: '1h' }, opened: null, commandId: null, text: '', pageNumber: 1 }
}

/** Trends of the machines that pass the filter of `query`. */
export function trendsAddress(query: FleetQuery): string {
  const filter = { ...NO_FILTER, text: query.text, status: query.status, tags: query.tags, site: query.site }
  return addressOf({ page: 'trends', metric: 'cpu_percent', groupBy: 'all', window: { range: '24h' }, query: filter })
}

export function jobAddress(commandId: string): string {
  return `#/jobs/${encodeURIComponent(commandId)}`
}

export function jobsAddress(changes: Partial<JobsQuery> = {}): string {
  return addressOf({ page: 'jobs', query: { ...ANY_JOB, ...changes }, pageNumber: 1 })
}

export function auditAddress(changes: Partial<AuditQuery>): string {
  return addressOf({ page: 'audit', query: { ...ANY_ENTRY, ...changes }, pageNumber: 1 })
}
