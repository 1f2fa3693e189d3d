import type { AccountGetReply } from '../generated/protocol'
import { wordsOf } from '../hub/refusal'
import { type HubSocket, hub } from '../hub/socket.svelte'
import type { Permission } from '../text/permissions'

/** Who is signed in and what they may do, as the hub says it. */
class Account {
  view = $state.raw<AccountGetReply | null>(null)
  problem = $state('')
  readonly #hub: HubSocket

  constructor(hub: HubSocket) {
    this.#hub = hub
    hub.whenLive(() => void this.load())
    hub.whenClosed(() => (this.view = null))
  }

  /** Only what the page shows depends on it: the hub asks again at each operation. */
  may(permission: Permission): boolean {
    return this.view?.permissions.includes(permission) ?? false
  }

  async load(): Promise<void> {
    try {
      this.view = await this.#hub.ask('account:get', {})
      this.problem = ''
    } catch (error) {
      this.problem = wordsOf(error)
    }
  }
}

export const account = new Account(hub)
