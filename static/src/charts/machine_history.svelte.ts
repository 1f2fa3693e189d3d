import { wordsOf } from '../hub/refusal'
import { type HubSocket } from '../hub/socket.svelte'
import { type History, LiveEnd, emptyHistory, forgetBefore } from './history'

const REFRESH_BUCKETS_MS = 120_000

export interface Span {
  fromMs: number
  toMs: number
  /** Whether the end of the span moves with the time and takes live samples. */
  moving: boolean
}

interface Sample {
  timestamp: number
  metricData: Record<string, unknown>
}

/** The charted values of one machine over a span of time: stored ones from the hub, and live ones at the end. */
export class MachineHistory {
  data = $state.raw<History>(emptyHistory([]))
  /** Counts the changes inside `data`. */
  version = $state(0)
  loaded = $state(false)
  problem = $state('')

  readonly #hub: HubSocket
  readonly #agentId: string
  readonly #metrics: readonly string[]
  #asked = 0
  #end = new LiveEnd()
  #spanMs = 0
  #moving = false
  /** Samples that came while a question was open: the answer may lack them. Null when none is open. */
  #meanwhile: Sample[] | null = null

  constructor(hub: HubSocket, agentId: string, metrics: readonly string[]) {
    this.#hub = hub
    this.#agentId = agentId
    this.#metrics = metrics
  }

  /** Show what `span` returns at the time of each load, until the returned function is called. */
  open(span: () => Span, points: number): () => void {
    const load = () => void this.#load(span(), points)
    const timer = setInterval(() => {
      if (this.#moving && this.data.resolutionSec > 0 && this.#hub.live) load()
    }, REFRESH_BUCKETS_MS)
    const offs = [
      this.#hub.whenLive(load),
      this.#hub.on('agents:metrics', (event) => {
        for (const sample of event.samples) {
          if (sample.agentId === this.#agentId && sample.metricType === 'system') this.#append(sample)
        }
      }),
    ]
    return () => {
      for (const off of offs) off()
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
      const reply = await this.#hub.ask('metrics:query', {
        agentIds: [this.#agentId],
        metrics: [...this.#metrics],
        from: Math.floor(span.fromMs - this.#spanMs / 50),
        to: Math.ceil(span.toMs) + 1000,
        maxPoints: points,
      })
      if (asked !== this.#asked) return
      const series = reply.series.find((one) => one.agentId === this.#agentId)
      this.data = { ...emptyHistory(this.#metrics), resolutionSec: reply.resolutionSec }
      if (series) this.data = { times: series.timestamps, values: this.#columnsOf(series.values), resolutionSec: reply.resolutionSec }
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

  #columnsOf(values: Record<string, (number | null)[]>): History['values'] {
    return Object.fromEntries(this.#metrics.map((metric) => [metric, values[metric] ?? []]))
  }

  #append(sample: Sample): void {
    if (!this.#moving) return
    this.#meanwhile?.push(sample)
    if (!this.loaded || !this.#end.append(this.data, sample.timestamp, sample.metricData)) return
    forgetBefore(this.data, sample.timestamp - this.#spanMs * 1.1)
    this.version++
  }
}
