import { SvelteMap } from 'svelte/reactivity'
import { Unanswered } from '../hub/refusal'
import { type HubSocket, hub } from '../hub/socket.svelte'
import { type Named, tellApart } from '../text/machines'

const AT_A_TIME = 1_000
const NAMESAKES_MAX = 50

/** Names for machine ids, asked for once where they are needed. */
class MachineNames {
  readonly #machines = new SvelteMap<string, Named>()
  readonly #asked = new Set<string>()
  readonly #hub: HubSocket
  readonly #apart = $derived(tellApart([...this.#machines.values()]))

  constructor(hub: HubSocket) {
    this.#hub = hub
    hub.on('agents:status', (event) => {
      for (const agent of event.agents) {
        if (!event.delta || this.#machines.has(agent.id)) this.#note(agent)
      }
    })
    hub.whenClosed(() => {
      this.#machines.clear()
      this.#asked.clear()
    })
  }

  /** The name, and what tells it from others of that name that are known; while it is not known, `unknown`. */
  of(agentId: string, unknown = agentId.slice(0, 8)): string {
    const machine = this.#machines.get(agentId)
    if (machine === undefined) return unknown
    const apart = this.apart(agentId)
    return apart === '' ? machine.name : `${machine.name} · ${apart}`
  }

  /** What tells a machine from others of its name that are known; empty where there are none. */
  apart(agentId: string): string {
    return this.#apart.get(agentId) ?? ''
  }

  learn(agentIds: readonly string[]): void {
    const unknown = new Set(agentIds.filter((id) => !this.#asked.has(id) && !this.#machines.has(id)))
    if (unknown.size > 0) void this.#ask([...unknown].slice(0, AT_A_TIME))
  }

  /** Learn one machine's name, and which others have it. */
  async learnApart(agentId: string): Promise<void> {
    if (!this.#machines.has(agentId)) await this.#ask([agentId])
    const name = this.#machines.get(agentId)?.name
    if (name === undefined || this.#asked.has(name)) return
    this.#asked.add(name)
    try {
      const { agents } = await this.#hub.ask('agents:list', { filter: { text: name }, limit: NAMESAKES_MAX })
      for (const agent of agents) if (agent.name === name) this.#note(agent)
    } catch (error) {
      if (error instanceof Unanswered) this.#asked.delete(name)
    }
  }

  async #ask(ids: readonly string[]): Promise<void> {
    for (const id of ids) this.#asked.add(id)
    try {
      const { agents } = await this.#hub.ask('agents:list', { filter: { ids: [...ids] }, limit: AT_A_TIME })
      for (const agent of agents) this.#note(agent)
    } catch (error) {
      if (error instanceof Unanswered) for (const id of ids) this.#asked.delete(id)
    }
  }

  #note({ id, name, hostname, site, ipAddresses }: Named): void {
    this.#machines.set(id, { id, name, hostname, site, ipAddresses })
  }
}

export const machineNames = new MachineNames(hub)
