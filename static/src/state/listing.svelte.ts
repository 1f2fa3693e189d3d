import { wordsOf } from '../hub/refusal'
import type { HubSocket } from '../hub/socket.svelte'

const RELOAD_PAUSE_MS = 250

/** One page of a list that the hub keeps. `total` counts all pages. */
export class Listing<T> {
  rows = $state.raw<readonly T[]>([])
  total = $state(0)
  loaded = $state(false)
  problem = $state('')
  readonly #hub: HubSocket
  readonly #ask: () => Promise<{ rows: readonly T[]; total: number }>
  #asked = 0
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(hub: HubSocket, ask: () => Promise<{ rows: readonly T[]; total: number }>) {
    this.#hub = hub
    this.#ask = ask
  }

  /** Keep the list until the returned function is called; with `everySeconds`, load it again and again while the page is seen. */
  open(everySeconds = 0): () => void {
    const off = this.#hub.whenLive(() => void this.load())
    const again = everySeconds > 0 ? setInterval(() => this.#hub.live && !document.hidden && void this.load(), everySeconds * 1000) : undefined
    return () => {
      off()
      clearInterval(again)
      clearTimeout(this.#timer)
      this.#asked++
    }
  }

  async load(): Promise<void> {
    const asked = ++this.#asked
    try {
      const { rows, total } = await this.#ask()
      if (asked !== this.#asked) return
      this.rows = rows
      this.total = total
      this.loaded = true
      this.problem = ''
    } catch (error) {
      if (asked === this.#asked) this.problem = wordsOf(error)
    }
  }

  /** Something has happened that may have changed the list; many such within a moment load it once. */
  reloadSoon(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.load(), RELOAD_PAUSE_MS)
  }
}
