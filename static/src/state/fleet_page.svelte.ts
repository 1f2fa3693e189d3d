import type { AgentSummary, AgentsMetrics, AgentsStatus } from '../generated/protocol'
import { wordsOf } from '../hub/refusal'
import { type HubSocket } from '../hub/socket.svelte'
import { type FleetQuery } from './routes'

export const ROWS_PER_PAGE = 50
const SHOWN_METRICS = [
  'cpu_percent',
  'memory_percent',
  'memory_used_bytes',
  'memory_total_bytes',
  'disk_percent',
  'disk_mount',
  'disk_used_bytes',
  'disk_total_bytes',
  'network_sent_bytes_per_sec',
  'network_recv_bytes_per_sec',
]
const TYPING_PAUSE_MS = 150
const RELOAD_PAUSE_MS = 400

/** One machine of the table. It is updated in place and keeps its position until the page is loaded again. */
export class Row {
  agent: AgentSummary = $state.raw()!
  removed = $state(false)

  constructor(agent: AgentSummary) {
    this.agent = agent
  }

  sample(metricData: AgentSummary['metrics'], timestampMs: number): void {
    const { agent } = this
    if (agent.sampledAtMs !== null && timestampMs < agent.sampledAtMs) return
    const heard = agent.lastSeen === null || Date.parse(agent.lastSeen) < timestampMs
    this.agent = {
      ...agent,
      metrics: { ...agent.metrics, ...metricData },
      sampledAtMs: timestampMs,
      lastSeen: heard ? new Date(timestampMs).toISOString() : agent.lastSeen,
    }
  }
}

/**
 * One page of the fleet as the hub filters and sorts it. Values change in place; an order or a membership that has changed
 * meanwhile sets `outdated`, and the page decides when rows may move.
 */
export class FleetPage {
  rows = $state.raw<readonly Row[]>([])
  total = $state(0)
  loaded = $state(false)
  outdated = $state(false)
  problem = $state('')
  /** Set by the page while rows must stay where they are: under the pointer, or while one is selected by keys. */
  held = false

  readonly #hub: HubSocket
  #query: FleetQuery | null = null
  #asked = 0
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(hub: HubSocket) {
    this.#hub = hub
  }

  /** Listen until the returned function is called. */
  open(): () => void {
    const offs = [
      this.#hub.whenLive(() => void this.load()),
      this.#hub.on('agents:status', (event) => this.#status(event)),
      this.#hub.on('agents:metrics', (event) => this.#metrics(event)),
    ]
    return () => {
      for (const off of offs) off()
      clearTimeout(this.#timer)
      this.#asked++
      this.#hub.unwatch()
    }
  }

  /** Show another page of the fleet; its rows come as soon as the hub is there. */
  show(query: FleetQuery): void {
    this.#query = query
    if (this.#asked > 0) this.#loadIn(TYPING_PAUSE_MS)
  }

  /** The values that the rows are sorted by have moved on. */
  grewOld(): void {
    if (!this.held) void this.load()
  }

  async load(): Promise<void> {
    const query = this.#query
    if (query === null) return
    clearTimeout(this.#timer)
    const asked = ++this.#asked
    try {
      const reply = await this.#hub.ask('agents:list', {
        filter: filterOf(query),
        sort: query.sort,
        limit: ROWS_PER_PAGE,
        offset: (query.page - 1) * ROWS_PER_PAGE,
      })
      if (asked !== this.#asked) return
      this.#take(reply.agents, reply.total)
      await this.#hub.watch(reply.agents.map((agent) => agent.id), SHOWN_METRICS, ['system'])
    } catch (error) {
      if (asked === this.#asked) this.problem = wordsOf(error)
    }
  }

  /** Rows may move now: load again if something has changed. */
  release(): void {
    this.held = false
    if (this.outdated) this.#loadIn(RELOAD_PAUSE_MS)
  }

  #take(agents: readonly AgentSummary[], total: number): void {
    const known = new Map(this.rows.map((row) => [row.agent.id, row]))
    this.rows = agents.map((agent) => {
      const row = known.get(agent.id)
      if (row === undefined) return new Row(agent)
      row.agent = agent
      row.removed = false
      return row
    })
    this.total = total
    this.loaded = true
    this.outdated = false
    this.problem = ''
  }

  #status(event: AgentsStatus): void {
    if (!event.delta) return
    const known = new Map(this.rows.map((row) => [row.agent.id, row]))
    let moved = false
    for (const agent of event.agents) {
      const row = known.get(agent.id)
      moved ||= row === undefined ? this.#mayBelong(agent) : row.agent.status !== agent.status || row.agent.name !== agent.name
      if (row !== undefined) row.agent = agent
    }
    for (const id of event.removed) {
      const row = known.get(id)
      if (row === undefined) continue
      row.removed = true
      moved = true
    }
    if (moved) this.#becameOutdated()
    if (this.#query !== null && isUnfiltered(this.#query)) this.total = event.total
  }

  #mayBelong(agent: AgentSummary): boolean {
    const status = this.#query?.status ?? []
    return status.length === 0 ? this.rows.length < ROWS_PER_PAGE : status.includes(agent.status)
  }

  #metrics(event: AgentsMetrics): void {
    const known = new Map(this.rows.map((row) => [row.agent.id, row]))
    for (const sample of event.samples) {
      if (sample.metricType === 'system') known.get(sample.agentId)?.sample(sample.metricData, sample.timestamp)
    }
  }

  #becameOutdated(): void {
    this.outdated = true
    if (!this.held) this.#loadIn(RELOAD_PAUSE_MS)
  }

  #loadIn(delayMs: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.load(), delayMs)
  }
}

function isUnfiltered({ text, status, tags, site }: FleetQuery): boolean {
  return text.trim() === '' && status.length === 0 && tags.length === 0 && site === ''
}

function filterOf(query: FleetQuery) {
  return { text: query.text.trim(), status: query.status, tags: query.tags, site: query.site === '' ? null : query.site }
}
