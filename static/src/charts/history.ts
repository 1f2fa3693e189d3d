/** Points of one machine's charts: times in ms, ascending, and beside them the values of each metric. */
export interface History {
  times: number[]
  values: Record<string, (number | null)[]>
  /** 0: raw samples; else the width of a bucket, of which `times` are the starts. */
  resolutionSec: number
}

export function emptyHistory(metrics: readonly string[]): History {
  return { times: [], values: Object.fromEntries(metrics.map((metric) => [metric, []])), resolutionSec: 0 }
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
      for (const [metric, column] of Object.entries(history.values)) {
        column[column.length - 1] = mean(column.at(-1) ?? null, numberIn(sample, metric), this.#bucketSamples)
      }
      return true
    }
    this.#bucketSamples = 1
    history.times.push(at)
    for (const [metric, column] of Object.entries(history.values)) column.push(numberIn(sample, metric))
    return true
  }
}

function mean(before: number | null, value: number | null, samples: number): number | null {
  if (before === null || value === null) return value ?? before
  return before + (value - before) / samples
}

export function numberIn(values: Record<string, unknown>, name: string): number | null {
  const value = values[name]
  return typeof value === 'number' && Number.isFinite(value) ? value : null
}

/** Forget the points before `fromMs`, but keep one so that the line reaches the edge. */
export function forgetBefore(history: History, fromMs: number): void {
  const keep = history.times.findIndex((time) => time >= fromMs) - 1
  if (keep <= 0) return
  history.times.splice(0, keep)
  for (const column of Object.values(history.values)) column.splice(0, keep)
}

/** Columns for drawing: seconds, then each metric, with a null wherever points are missing, so that a gap is seen as a gap. */
export function withGaps(history: History, metrics: readonly string[]): [number[], ...(number | null)[][]] {
  const { times } = history
  const widest = 2.5 * usualDistance(times)
  const seconds: number[] = []
  const columns: (number | null)[][] = metrics.map(() => [])
  times.forEach((time, index) => {
    const before = times[index - 1]
    if (before !== undefined && time - before > widest) {
      seconds.push((before + (time - before) / 2) / 1000)
      for (const column of columns) column.push(null)
    }
    seconds.push(time / 1000)
    metrics.forEach((metric, at) => columns[at]!.push(history.values[metric]?.[index] ?? null))
  })
  return [seconds, ...columns]
}

/** The median distance of neighbours in ms; Infinity where there are too few points to tell. */
export function usualDistance(times: readonly number[]): number {
  if (times.length < 3) return Infinity
  const distances = times.slice(1).map((time, index) => time - times[index]!)
  distances.sort((a, b) => a - b)
  return distances[Math.floor(distances.length / 2)]!
}
