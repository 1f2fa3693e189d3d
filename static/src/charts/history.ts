import type { MetricSeries, MetricsQueryReply } from '../generated/protocol'
import { numberIn } from '../text/readings.ts'

export type Column = (number | null)[]
export type Resolution = MetricsQueryReply['resolution']
type Answer = Pick<MetricsQueryReply, 'series' | 'resolution' | 'resolutionSec'>

/** Points of a chart: times in ms, ascending, and beside them the values of each line. */
export interface History {
  times: number[]
  values: Record<string, Column>
  /** Lowest and highest of each point; a line whose points are single samples has neither. */
  minima: Record<string, Column>
  maxima: Record<string, Column>
  /** 0: raw samples; else the width of a bucket, of which `times` are the starts. */
  resolutionSec: number
  /** What the hub made the points of. */
  resolution: Resolution
  /** Of an answer for groups: all of them, the largest first, also those that have no line. */
  groups?: readonly MetricSeries[]
}

export function emptyHistory(lines: readonly string[]): History {
  return { times: [], values: Object.fromEntries(lines.map((line) => [line, []])), minima: {}, maxima: {}, resolutionSec: 0, resolution: 'raw' }
}

/** The answer for one machine: a line a metric. */
export function historyOf(reply: Answer, metrics: readonly string[]): History {
  const { resolution, resolutionSec } = reply
  const series = reply.series[0]
  if (series === undefined) return { ...emptyHistory(metrics), resolution, resolutionSec }
  const { timestamps: times, minima, maxima } = series
  const values = Object.fromEntries(metrics.map((metric) => [metric, series.values[metric] ?? times.map(() => null)]))
  return { times, values, minima, maxima, resolution, resolutionSec }
}

/** The answer for groups: a line a group, of one metric, at most `linesMost`. Buckets that only some groups have are null in the others; lines of several have no band. */
export function historyOfGroups({ series: all, resolution, resolutionSec }: Answer, metric: string, linesMost: number): History {
  const groups = all.toSorted((one, other) => other.agents - one.agents)
  const drawn = groups.slice(0, linesMost)
  const times = [...new Set(drawn.flatMap((series) => series.timestamps))].toSorted((one, other) => one - other)
  const isOne = drawn.length === 1
  const placeOf = new Map(times.map((time, place) => [time, place]))
  const spread = (series: MetricSeries, column: Column | undefined): Column => {
    const spreadOut: Column = times.map(() => null)
    series.timestamps.forEach((time, at) => (spreadOut[placeOf.get(time)!] = column?.[at] ?? null))
    return spreadOut
  }
  const lines = (of: 'values' | 'minima' | 'maxima') => Object.fromEntries(drawn.map((series) => [series.group, spread(series, series[of][metric])]))
  return { times, values: lines('values'), minima: isOne ? lines('minima') : {}, maxima: isOne ? lines('maxima') : {}, resolution, resolutionSec, groups }
}

/** `history` with the lines of `counted`, which only rise, as how much they rise in a second; a fall is a start from 0 and not known. */
export function asRates(history: History, counted: readonly string[]): History {
  const [values, minima, maxima] = [{ ...history.values }, { ...history.minima }, { ...history.maxima }]
  for (const line of counted) {
    delete minima[line]
    delete maxima[line]
    if (values[line] !== undefined) values[line] = rises(history.times, values[line])
  }
  return { ...history, values, minima, maxima }
}

function rises(times: readonly number[], column: Column): Column {
  return column.map((value, at) => {
    const before = column[at - 1] ?? null
    const seconds = (times[at]! - (times[at - 1] ?? 0)) / 1000
    return value === null || before === null || value < before ? null : (value - before) / seconds
  })
}

/**
 * Add a live sample at its place at the end. In a bucketed history it is averaged into its bucket with weight
 * `1 / (samples in it + 1)`; a sample older than the newest point is dropped.
 */
export class LiveEnd {
  #bucketSamples = 1

  append(history: History, timeMs: number, sample: Record<string, unknown>): boolean {
    const widthMs = history.resolutionSec * 1000
    const at = widthMs === 0 ? timeMs : Math.floor(timeMs / widthMs) * widthMs
    const last = history.times.at(-1)
    if (last !== undefined && at < last) return false
    if (last === at) {
      if (widthMs === 0) return false
      this.#bucketSamples++
      change(history.values, sample, (before, value) => before + (value - before) / this.#bucketSamples)
      change(history.minima, sample, Math.min)
      change(history.maxima, sample, Math.max)
      return true
    }
    this.#bucketSamples = 1
    history.times.push(at)
    for (const columns of [history.values, history.minima, history.maxima]) {
      for (const [metric, column] of Object.entries(columns)) column.push(numberIn(sample, metric))
    }
    return true
  }
}

/** Put what `join` makes of the last point and the sample in its place; where either is not known, the other. */
function change(columns: Record<string, Column>, sample: Record<string, unknown>, join: (before: number, value: number) => number): void {
  for (const [metric, column] of Object.entries(columns)) {
    const [before, value] = [column.at(-1) ?? null, numberIn(sample, metric)]
    column[column.length - 1] = before === null || value === null ? (value ?? before) : join(before, value)
  }
}

/** Forget the points before `fromMs`, but keep one so that the line reaches the edge. */
export function forgetBefore(history: History, fromMs: number): void {
  const keep = history.times.findIndex((time) => time >= fromMs) - 1
  if (keep <= 0) return
  history.times.splice(0, keep)
  for (const columns of [history.values, history.minima, history.maxima]) {
    for (const column of Object.values(columns)) column.splice(0, keep)
  }
}

/** `columns` for drawing: seconds, then each of them, with a null wherever points are missing, so that a gap is seen as a gap. */
export function withGaps(times: readonly number[], columns: readonly (Column | undefined)[]): [number[], ...Column[]] {
  const widest = 2.5 * usualDistance(times)
  const seconds: number[] = []
  const drawn: Column[] = columns.map(() => [])
  times.forEach((time, index) => {
    const before = times[index - 1]
    if (before !== undefined && time - before > widest) {
      seconds.push((before + (time - before) / 2) / 1000)
      for (const column of drawn) column.push(null)
    }
    seconds.push(time / 1000)
    columns.forEach((column, at) => drawn[at]!.push(column?.[index] ?? null))
  })
  return [seconds, ...drawn]
}

/** The median distance of neighbours in ms; Infinity where there are too few points to tell. */
export function usualDistance(times: readonly number[]): number {
  if (times.length < 3) return Infinity
  const distances = times.slice(1).map((time, index) => time - times[index]!)
  distances.sort((a, b) => a - b)
  return distances[Math.floor(distances.length / 2)]!
}
