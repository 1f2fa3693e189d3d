import { wordsOf } from '../hub/refusal'
import { type HubSocket } from '../hub/socket.svelte'
import { type History, LiveEnd, emptyHistory, forgetBefore } from './history'
import type { Sample, Source } from './sources'
import type { Span } from './span'

const REFRESH_BUCKETS_MS = 120_000

/** What a chart shows of a span of time: what the hub keeps, and live samples at the end where the source has them. */
export class ChartHistory {
  data = $state.raw<History>(emptyHistory([]))
  /** Counts the changes inside `data`. */
  version = $state(0)
  loaded = $state(false)
  problem = $state('')

  readonly #hub: HubSocket
  readonly #source: Source
  #asked = 0
  #end = new LiveEnd()
  #spanMs = 0
  #moving = false
  /** Samples that came while a question was open: the answer may lack them. Null when none is open. */
  #meanwhile: Sample[] | null = null

  constructor(hub: HubSocket, source: Source) {
    this.#hub = hub
    this.#source = source
  }

  /** Show what `span` returns at the time of each load, until the returned function is called. */
  open(span: () => Span, points: number): () => void {
    const { live, refreshMs } = this.#source
    const load = () => void this.#load(span(), points)
    const timer = setInterval(() => {
      const grows = refreshMs !== undefined || this.data.resolutionSec > 0
      if (this.#moving && grows && this.#hub.live && !document.hidden) load()
    }, refreshMs ?? REFRESH_BUCKETS_MS)
    const offs = [this.#hub.whenLive(load), live?.((sample) => this.#append(sample))]
    return () => {
      for (const off of offs) off?.()
      clearInterval(timer)
      this.#asked++
    }
  }

  async #load(span: Span, points: number): Promise<void> {
    const asked = ++this.#asked
    this.#meanwhile = []
    this.#moving = span.moving
    this.#spanMs = span.toMs - span.fromMs
    try {
      const found = await this.#source.ask({
        from: Math.max(0, Math.floor(span.fromMs - this.#spanMs / 50)),
        to: Math.ceil(span.toMs) + 1000,
        maxPoints: points,
      })
      if (asked !== this.#asked) return
      this.data = found
      this.#end = new LiveEnd()
      for (const { timestamp, metricData } of this.#meanwhile) this.#end.append(this.data, timestamp, metricData)
      this.#meanwhile = null
      this.loaded = true
      this.problem = ''
      this.version++
    } catch (error) {
      if (asked !== this.#asked) return
      this.#meanwhile = null
      this.problem = wordsOf(error)
    }
  }

  #append(sample: Sample): void {
    if (!this.#moving) return
    this.#meanwhile?.push(sample)
    if (!this.loaded || !this.#end.append(this.data, sample.timestamp, sample.metricData)) return
    forgetBefore(this.data, sample.timestamp - this.#spanMs * 1.1)
    this.version++
  }
}
