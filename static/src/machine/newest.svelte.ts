import type { NewestMetric } from '../generated/protocol'
import { wordsOf } from '../hub/refusal'
import { type HubSocket } from '../hub/socket.svelte'

/** The newest sample of each metric type of one machine, kept up by the feed of the machine in view. */
export class NewestValues {
  metrics = $state.raw<readonly NewestMetric[]>([])
  loaded = $state(false)
  problem = $state('')
  readonly #hub: HubSocket
  readonly #agentId: string

  constructor(hub: HubSocket, agentId: string) {
    this.#hub = hub
    this.#agentId = agentId
  }

  /** Listen until the returned function is called. */
  open(): () => void {
    const offs = [
      this.#hub.whenLive(() => void this.#load()),
      this.#hub.on('agents:metrics', (event) => this.#take(event.samples.filter((sample) => sample.agentId === this.#agentId))),
    ]
    return () => offs.forEach((off) => off())
  }

  async #load(): Promise<void> {
    try {
      const { metrics } = await this.#hub.ask('metrics:newest', { agentId: this.#agentId })
      this.#take(metrics)
      this.loaded = true
      this.problem = ''
    } catch (error) {
      this.problem = wordsOf(error)
    }
  }

  #take(samples: readonly NewestMetric[]): void {
    if (samples.length === 0) return
    const newest = new Map(this.metrics.map((one) => [one.metricType, one]))
    for (const { metricType, timestamp, metricData } of samples) {
      const known = newest.get(metricType)
      if (known === undefined || known.timestamp <= timestamp) newest.set(metricType, { metricType, timestamp, metricData })
    }
    this.metrics = [...newest.values()]
  }
}
