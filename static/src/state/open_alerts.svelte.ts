import type { AgentAlert, AlertView } from '../generated/protocol'
import { wordsOf } from '../hub/refusal'
import { type HubSocket, hub } from '../hub/socket.svelte'

const SHOWN = 100
const RELOAD_PAUSE_MS = 250

/** The newest open alerts of the whole fleet, kept up by events. */
class OpenAlerts {
  list = $state.raw<readonly AlertView[]>([])
  total = $state(0)
  loaded = $state(false)
  problem = $state('')
  readonly #hub: HubSocket
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(hub: HubSocket) {
    this.#hub = hub
    hub.whenLive(() => void this.#load())
    hub.whenClosed(() => this.#forget())
    hub.on('agent:alert', (event) => this.#hear(event))
    hub.on('agents:status', (event) => {
      if (event.removed.length > 0) this.#reloadSoon()
    })
  }

  of(agentId: string): readonly AlertView[] {
    return this.list.filter((alert) => alert.agentId === agentId)
  }

  /** Raises Refused or Unanswered. */
  async resolve(alertId: string): Promise<AlertView> {
    const { alert } = await this.#hub.ask('alerts:resolve', { alertId })
    this.#remove(alertId)
    return alert
  }

  #hear(event: AgentAlert): void {
    if (event.state === 'RESOLVED') this.#remove(event.alertId)
    else this.#reloadSoon()
  }

  #remove(alertId: string): void {
    const rest = this.list.filter((alert) => alert.id !== alertId)
    this.total -= this.list.length - rest.length
    this.list = rest
    if (this.total > rest.length) this.#reloadSoon()
  }

  #forget(): void {
    this.list = []
    this.total = 0
    this.loaded = false
    this.problem = ''
  }

  #reloadSoon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      void this.#load()
    }, RELOAD_PAUSE_MS)
  }

  async #load(): Promise<void> {
    try {
      const reply = await this.#hub.ask('alerts:list', { state: 'OPEN', limit: SHOWN })
      this.list = reply.alerts
      this.total = reply.total
      this.loaded = true
      this.problem = ''
    } catch (error) {
      this.problem = wordsOf(error)
    }
  }
}

export const openAlerts = new OpenAlerts(hub)
