import type { MetricSeries } from '../generated/protocol'
import type { FleetQuery, TrendGrouping, TrendMetric } from '../state/routes'
import { csvOf } from './csv.ts'
import { STATUS_WORDS, systemWords } from './words.ts'

export const TREND_WORDS: Record<TrendMetric, string> = {
  cpu_percent: 'CPU',
  memory_percent: 'Memory',
  disk_percent: 'Disk',
  network_recv_bytes_per_sec: 'Received',
  network_sent_bytes_per_sec: 'Sent',
}

export const GROUPING_WORDS: Record<TrendGrouping, string> = { all: 'All together', site: 'Site', os: 'System', tag: 'Tag' }

const NAMELESS: Record<TrendGrouping, string> = { all: 'All machines', site: 'No site', os: 'System not known', tag: 'No tag' }

export function groupWords(groupBy: TrendGrouping, group: string): string {
  if (group === '') return NAMELESS[groupBy]
  return groupBy === 'os' ? systemWords(group, '') : group
}

/** What narrows the fleet to a group; null where no filter does. */
export function groupFilter(groupBy: TrendGrouping, group: string): Partial<FleetQuery> | null {
  if (groupBy === 'all') return {}
  if (group === '' || groupBy === 'os') return null
  return groupBy === 'site' ? { site: group } : { tags: [group] }
}

/** The filter of the fleet in words: `tag web, site Bern`; empty where there is none. */
export function filterWords({ text, status, tags, site }: FleetQuery): string {
  return [text.trim() === '' ? '' : `“${text.trim()}”`, status.map((one) => STATUS_WORDS[one].toLowerCase()).join(' or '), ...tags.map((tag) => `tag ${tag}`), site === '' ? '' : `site ${site}`]
    .filter((words) => words !== '')
    .join(', ')
}

export interface Summary {
  newest: number | null
  mean: number | null
  lowest: number | null
  highest: number | null
}

/** One line as four numbers; lowest and highest of single machines where the hub tells them. */
export function summaryOf({ values, minima, maxima }: MetricSeries, metric: string): Summary {
  const known = (column: (number | null)[] | undefined) => (column ?? []).filter((value) => value !== null)
  const points = known(values[metric])
  if (points.length === 0) return { newest: null, mean: null, lowest: null, highest: null }
  const [low, high] = [known(minima[metric]), known(maxima[metric])]
  return {
    newest: points.at(-1)!,
    mean: points.reduce((sum, value) => sum + value, 0) / points.length,
    lowest: least(low.length > 0 ? low : points),
    highest: -least((high.length > 0 ? high : points).map((value) => -value)),
  }
}

function least(values: readonly number[]): number {
  return values.reduce((one, other) => Math.min(one, other))
}

/** Every point of every group. */
export function trendsCsv(groups: readonly MetricSeries[], groupBy: TrendGrouping, metric: string): string {
  const rows = groups.flatMap((series) =>
    series.timestamps.map((time, at) => [
      new Date(time).toISOString(),
      groupWords(groupBy, series.group),
      series.agents,
      ...[series.values, series.minima, series.maxima].map((columns) => columns[metric]?.[at] ?? ''),
    ]),
  )
  return csvOf([['at', 'group', 'machines', metric, 'lowest', 'highest'], ...rows])
}
