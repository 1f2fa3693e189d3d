import type { HubHealthReply } from '../generated/protocol'
import { wordsOf } from '../hub/refusal'
import { type HubSocket } from '../hub/socket.svelte'
import { type Vital, hubVitals, troubleOf } from '../text/vitals'

const EVERY_MS = 10_000

/** How the hub itself is, asked for again and again while the page is seen. */
export class HubHealth {
  reply = $state.raw<HubHealthReply | null>(null)
  vitals = $state.raw<readonly Vital[]>([])
  problem = $state('')
  readonly trouble = $derived(troubleOf(this.vitals))
  readonly #hub: HubSocket

  constructor(hub: HubSocket) {
    this.#hub = hub
  }

  /** Keep up until the returned function is called. */
  open(): () => void {
    const off = this.#hub.whenLive(() => void this.#load())
    const timer = setInterval(() => this.#hub.live && !document.hidden && void this.#load(), EVERY_MS)
    return () => {
      off()
      clearInterval(timer)
    }
  }

  async #load(): Promise<void> {
    try {
      const reply = await this.#hub.ask('hub:health', {})
      const before = this.reply?.startedAt === reply.startedAt ? this.reply.figures : null
      this.vitals = hubVitals(reply.figures, before)
      this.reply = reply
      this.problem = ''
    } catch (error) {
      this.problem = wordsOf(error)
    }
  }
}
