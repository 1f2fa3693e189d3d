import { SvelteMap } from 'svelte/reactivity'
import { Unanswered } from '../hub/refusal'
import { type HubSocket, hub } from '../hub/socket.svelte'

const AT_A_TIME = 20

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
    for (const id of [...unknown].slice(0, AT_A_TIME)) void this.#ask(id)
  }

  async #ask(agentId: string): Promise<void> {
    this.#asked.add(agentId)
    try {
      const { agent } = await this.#hub.ask('agents:get', { agentId })
      this.#names.set(agentId, agent.name)
    } catch (error) {
      if (error instanceof Unanswered) this.#asked.delete(agentId)
    }
  }
}

export const machineNames = new MachineNames(hub)
