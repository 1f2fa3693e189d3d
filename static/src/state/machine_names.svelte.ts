import { SvelteMap } from 'svelte/reactivity'
import { Unanswered } from '../hub/refusal'
import { type HubSocket, hub } from '../hub/socket.svelte'

const AT_A_TIME = 1_000

/** Names for machine ids, asked for once where they are needed. */
class MachineNames {
  readonly #names = new SvelteMap<string, string>()
  readonly #asked = new Set<string>()
  readonly #hub: HubSocket

  constructor(hub: HubSocket) {
    this.#hub = hub
    hub.on('agents:status', (event) => {
      for (const agent of event.agents) {
        if (!event.delta || this.#names.has(agent.id)) this.#names.set(agent.id, agent.name)
      }
    })
    hub.whenClosed(() => {
      this.#names.clear()
      this.#asked.clear()
    })
  }

  /** The name; while it is not known, the start of the id. */
  of(agentId: string): string {
    return this.#names.get(agentId) ?? agentId.slice(0, 8)
  }

  learn(agentIds: readonly string[]): void {
    const unknown = new Set(agentIds.filter((id) => !this.#asked.has(id) && !this.#names.has(id)))
    if (unknown.size > 0) void this.#ask([...unknown].slice(0, AT_A_TIME))
  }

  async #ask(ids: readonly string[]): Promise<void> {
    for (const id of ids) this.#asked.add(id)
    try {
      const { agents } = await this.#hub.ask('agents:list', { filter: { ids: [...ids] }, limit: AT_A_TIME })
      for (const agent of agents) this.#names.set(agent.id, agent.name)
    } catch (error) {
      if (error instanceof Unanswered) for (const id of ids) this.#asked.delete(id)
    }
  }
}

export const machineNames = new MachineNames(hub)
