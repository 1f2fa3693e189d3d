import type { ApprovalView } from '../generated/protocol'
import { type HubSocket, hub } from '../hub/socket.svelte'
import { Listing } from './listing.svelte'

const EVERY_SECONDS = 10
const SHOWN = 100

/** Machines that wait for a person to let them in. The hub has no event for them, so it is asked now and then. */
class Waiting {
  readonly machines: Listing<ApprovalView>
  readonly #hub: HubSocket

  constructor(hub: HubSocket) {
    this.#hub = hub
    this.machines = new Listing(hub, () => this.#ask())
    hub.whenClosed(() => (this.machines.rows = []))
  }

  /** Keep up with them until the returned function is called; for who may see them. */
  open(everySeconds = EVERY_SECONDS): () => void {
    return this.machines.open(everySeconds)
  }

  /** Raises Refused or Unanswered. */
  async decide(approvalId: string, verdict: 'approve' | 'reject'): Promise<void> {
    await this.#hub.ask(`approvals:${verdict}`, { approvalId })
    await this.machines.load()
  }

  async #ask(): Promise<{ rows: readonly ApprovalView[]; total: number }> {
    const { approvals, total } = await this.#hub.ask('approvals:list', { state: 'pending', limit: SHOWN })
    return { rows: approvals, total }
  }
}

export const waiting = new Waiting(hub)
