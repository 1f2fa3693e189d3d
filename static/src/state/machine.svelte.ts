import type { AgentSummary, AgentsGetReply, AgentsUpdate, FeedSample } from '../generated/protocol'
import { Refused, wordsOf } from '../hub/refusal'
import { type HubSocket } from '../hub/socket.svelte'

/** One machine as its page shows it, kept up by events. */
export class Machine {
  readonly id: string
  agent = $state.raw<AgentSummary | null>(null)
  settings = $state.raw<Omit<AgentsGetReply, 'agent' | 'ok'> | null>(null)
  missing = $state(false)
  problem = $state('')
  readonly #hub: HubSocket
  #open = false

  constructor(hub: HubSocket, id: string) {
    this.#hub = hub
    this.id = id
  }

  /** Listen until the returned function is called. */
  open(): () => void {
    const offs = [
      this.#hub.whenLive(() => void this.#load()),
      this.#hub.on('agents:status', (event) => {
        const changed = event.agents.find((agent) => agent.id === this.id)
        if (changed) this.#changed(changed)
        if (event.removed.includes(this.id)) this.missing = true
      }),
      this.#hub.on('agents:metrics', (event) => {
        for (const sample of event.samples) this.#sample(sample)
      }),
    ]
    this.#open = true
    return () => {
      this.#open = false
      for (const off of offs) off()
      this.#hub.unwatch()
    }
  }

  /** Change what people may change. Raises Refused or Unanswered. */
  async update(changes: Omit<AgentsUpdate, 'agentId'>): Promise<void> {
    this.#take(await this.#hub.ask('agents:update', { agentId: this.id, ...changes }))
  }

  /** Forget the machine; its certificate stops working. Raises Refused or Unanswered. */
  async remove(): Promise<void> {
    await this.#hub.ask('agents:delete', { agentId: this.id })
  }

  /** Keep the machine out, for good or until it is released. Raises Refused or Unanswered. */
  async keepOut(how: 'quarantine' | 'revoke', reason: string): Promise<void> {
    this.#take(await this.#hub.ask(`agents:${how}`, { agentId: this.id, reason }))
  }

  /** Let the machine in again. Raises Refused or Unanswered. */
  async release(): Promise<void> {
    this.#take(await this.#hub.ask('agents:release', { agentId: this.id }))
  }

  #changed(agent: AgentSummary): void {
    const trusted = this.settings?.trust
    this.agent = agent
    if (trusted !== undefined && trusted !== agent.trust) void this.#load()
  }

  async #load(): Promise<void> {
    try {
      this.#take(await this.#hub.ask('agents:get', { agentId: this.id }))
      if (this.#open) await this.#hub.watch([this.id])
      this.problem = ''
    } catch (error) {
      if (error instanceof Refused && error.code === 'not_found') this.missing = true
      else this.problem = wordsOf(error)
    }
  }

  #take({ agent, ok: _, ...settings }: AgentsGetReply): void {
    this.agent = agent
    this.settings = settings
    this.missing = false
  }

  #sample(sample: FeedSample): void {
    const { agent } = this
    if (agent === null || sample.agentId !== this.id || sample.metricType !== 'system') return
    if (agent.sampledAtMs !== null && sample.timestamp < agent.sampledAtMs) return
    const heard = agent.lastSeen === null || Date.parse(agent.lastSeen) < sample.timestamp
    this.agent = {
      ...agent,
      metrics: { ...agent.metrics, ...sample.metricData },
      sampledAtMs: sample.timestamp,
      lastSeen: heard ? new Date(sample.timestamp).toISOString() : agent.lastSeen,
    }
  }
}
