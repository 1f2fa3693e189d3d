import type { ChartWindow, RangeName } from '../state/routes'
import { duration } from '../text/format.ts'
import type { History } from './history'

const MINUTE = 60_000
const DAY = 1440 * MINUTE
const STEPS_ACROSS = 900

const RANGE_MS: Record<RangeName, number> = {
  '15m': 15 * MINUTE,
  '1h': 60 * MINUTE,
  '6h': 360 * MINUTE,
  '24h': DAY,
  '7d': 7 * DAY,
  '30d': 30 * DAY,
  '1y': 365 * DAY,
}
export const RANGE_WORDS: Record<RangeName, string> = { '15m': '15 min', '1h': '1 h', '6h': '6 h', '24h': '24 h', '7d': '7 d', '30d': '30 d', '1y': '1 y' }

export interface Span {
  fromMs: number
  toMs: number
  /** Whether the end of the span moves with the time and takes live samples. */
  moving: boolean
}

/** The span of `window` now. Its end moves in steps so small that they are not seen. */
export function spanOf(window: ChartWindow, nowMs: number): Span {
  if ('fromMs' in window) return { ...window, moving: false }
  const length = RANGE_MS[window.range]
  const step = Math.max(1000, length / STEPS_ACROSS)
  const toMs = Math.ceil(nowMs / step) * step
  return { fromMs: toMs - length, toMs, moving: true }
}

const KEPT_EVERY: Record<History['resolution'], string> = { raw: 'samples', '1m': 'records of 1 min', '5m': 'records of 5 min', '1h': 'records of 1 h' }

/** How fine the points are: `each point is one sample`, `each point is 10 min, from records of 5 min; band: lowest to highest`. */
export function finenessWords({ resolution, resolutionSec, minima }: Pick<History, 'resolution' | 'resolutionSec' | 'minima'>): string {
  if (resolutionSec === 0) return 'each point is one sample'
  const band = Object.keys(minima).length > 0 ? '; band: lowest to highest' : ''
  return `each point is ${duration(resolutionSec)}, from ${KEPT_EVERY[resolution]}${band}`
}
