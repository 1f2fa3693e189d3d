import type { AgentFilter, MetricsQuery } from '../generated/protocol'
import type { HubSocket } from '../hub/socket.svelte'
import { type History, asRates, historyOf, historyOfGroups } from './history'

const REFRESH_MS = 30_000
/** Lines of more groups could not be told apart. */
export const GROUPS_SHOWN = 8

export interface Sample {
  timestamp: number
  metricData: Record<string, unknown>
}

export interface Asked {
  from: number
  to: number
  maxPoints: number
}

/** Where the points of a chart come from. */
export interface Source {
  /** Raises Refused or Unanswered. */
  ask: (asked: Asked) => Promise<History>
  /** Hear each new sample until the returned function is called. */
  live?: (take: (sample: Sample) => void) => () => void
  /** How often to ask again while the end of the span moves; without it only buckets are asked for again. */
  refreshMs?: number
}

/** Metrics of one type of one machine, which the page watches. */
export function machineSource(hub: HubSocket, agentId: string, metricType: string, metrics: readonly string[]): Source {
  return {
    ask: async (asked) => historyOf(await hub.ask('metrics:query', { agentIds: [agentId], metricType, metrics: [...metrics], ...asked }), metrics),
    live: (take) =>
      hub.on('agents:metrics', (event) => {
        for (const sample of event.samples) {
          if (sample.agentId === agentId && sample.metricType === metricType) take(sample)
        }
      }),
  }
}

/** The hub's own figures; those of `counted` only rise, and are shown by how much in a second. */
export function hubSource(hub: HubSocket, metrics: readonly string[], counted: readonly string[]): Source {
  return {
    ask: async (asked) => asRates(historyOf(await hub.ask('hub:metrics', { metrics: [...metrics], ...asked }), metrics), counted),
    refreshMs: REFRESH_MS,
  }
}

export type Grouping = NonNullable<MetricsQuery['groupBy']>

/** One metric of the machines that pass `filter`, a line a group. */
export function groupSource(hub: HubSocket, { filter, groupBy, metric }: { filter: AgentFilter; groupBy: Grouping; metric: string }): Source {
  return {
    ask: async (asked) => historyOfGroups(await hub.ask('metrics:query', { filter, groupBy, metrics: [metric], ...asked }), metric, GROUPS_SHOWN),
    refreshMs: REFRESH_MS,
  }
}
