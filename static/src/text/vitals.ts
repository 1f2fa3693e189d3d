import type { HubHealthReply } from '../generated/protocol'
import { NONE, brief, bytes, percent, plain } from './format.ts'

/** How the hub itself is: its figures as a person reads them. Names are those of `/metrics`, without their prefix. */
export type Figures = HubHealthReply['figures']

export interface Vital {
  word: string
  value: string
  /** Why it is worth a look; empty where all is well. */
  trouble: string
}

const SLOW_LOOP_MS = 200
const SLOW_COMMIT_SECONDS = 2
const MANY_WAITING = 5_000
const FEW_DAYS = 7
const WAITING = 'bus_buffered_'
const DROPPED = 'bus_dropped_total_'
/** What only shows the newest drops what is older: nothing is lost by it. */
const DROPS_THE_OLD = ['live_feed']

/** The figures that tell how the hub is, those of `before` being some seconds older; what the hub does not tell is left out. */
export function hubVitals(figures: Figures, before: Figures | null): Vital[] {
  const lag = figures.loop_lag_p99_ms
  const commit = figures.commit_p99_seconds
  const waiting = totalOf(figures, WAITING)
  const days = figures.issuing_authority_days
  return [
    vital('Agents connected', figures.agents_connected, String),
    vital('Loop lag p99', lag, milliseconds, lag !== undefined && lag > SLOW_LOOP_MS ? 'the hub answers late' : ''),
    vital('Events waiting', waiting, String, waiting > MANY_WAITING ? 'events come faster than they are taken' : ''),
    vital('Commit p99', commit, (value) => milliseconds(value * 1000), commit !== undefined && commit > SLOW_COMMIT_SECONDS ? 'the store is slow' : ''),
    vital('Dropped since the start', lostOf(figures), String, before !== null && lostOf(figures) > lostOf(before) ? 'something was dropped just now' : ''),
    vital('Commits failed', figures.commits_failed, String, rises('commits_failed', figures, before) ? 'the store fails: samples wait at the agents' : ''),
    vital('Issuing certificate', days, (value) => `${brief(value * 86_400)} left`, days !== undefined && days < FEW_DAYS ? 'the certificate that issues the machines’ ends soon' : ''),
  ].filter((one) => one.value !== NONE)
}

function vital(word: string, value: number | undefined, words: (value: number) => string, trouble = ''): Vital {
  return { word, value: value === undefined ? NONE : words(value), trouble }
}

/** What is wrong, in one sentence; empty where nothing is. */
export function troubleOf(vitals: readonly Vital[]): string {
  return vitals
    .map((one) => one.trouble)
    .filter((trouble) => trouble !== '')
    .join('; ')
}

function rises(name: string, figures: Figures, before: Figures | null): boolean {
  return (figures[name] ?? 0) > (before?.[name] ?? Infinity)
}

/** What was lost in the hub since its start: events that a listener was too slow for, frames the store refused. */
function lostOf(figures: Figures): number {
  const harmless = DROPS_THE_OLD.reduce((total, listener) => total + (figures[DROPPED + listener] ?? 0), 0)
  return totalOf(figures, DROPPED) - harmless + (figures.frames_refused ?? 0)
}

function totalOf(figures: Figures, start: string): number {
  return Object.entries(figures).reduce((total, [name, value]) => total + (name.startsWith(start) ? value : 0), 0)
}

export function milliseconds(value: number | null): string {
  if (value === null) return NONE
  return value >= 1000 ? `${plain(value / 1000, 1)} s` : `${plain(value, value < 10 ? 1 : 0)} ms`
}

/** One figure by its name: bytes, seconds and milliseconds with their unit. */
export function figureOf(name: string, value: number): string {
  if (/(^|_)bytes(_|$)/.test(name)) return bytes(value)
  if (name.endsWith('_percent')) return percent(value)
  if (name.endsWith('_ms')) return milliseconds(value)
  if (/(^|_)seconds(_|$)/.test(name)) return milliseconds(value * 1000)
  return Number.isInteger(value) ? String(value) : plain(value)
}

/** `bus_buffered_live_feed` → `live feed`. */
export function queueWords(name: string): string {
  return name.slice(WAITING.length).replaceAll('_', ' ')
}
