import type { AgentSummary } from '../generated/protocol'
import { brief, duration, timeOf } from './format.ts'

const REASONS: Record<string, string> = {
  never_connected: 'has never connected',
  shutdown: 'shut down',
  restart: 'restarting',
  update: 'agent is updating',
  operator: 'agent was stopped',
  sleep: 'asleep',
  refused: 'refused',
  silent: 'went silent',
  connection_lost: 'connection lost',
  site_silent: 'its whole site went silent',
  superseded: 'replaced by a newer session',
  slow_consumer: 'too slow to keep up',
  protocol_error: 'spoke the protocol wrongly',
  revoked: 'certificate revoked',
  quarantined: 'kept out until a person releases it',
  hub_stopped: 'the hub was stopped',
  hub_away: 'the hub was away',
}
const AWAITED = 'hub_away'
const NEVER = 'never_connected'

/** Why a machine is not active, in words. `refused` brings its own after a colon, and what fails is a list of codes. */
export function reasonWords(reason: string): string {
  const at = reason.indexOf(': ')
  const code = at < 0 ? reason : reason.slice(0, at)
  if (Object.hasOwn(REASONS, code)) return at < 0 ? REASONS[code]! : `${REASONS[code]}${reason.slice(at)}`
  return reason.split(', ').map(problemWords).join(', ')
}

/** `disk_failing`, `refused_metrics`: what does not work although the machine is there. */
function problemWords(problem: string): string {
  const [, collector, refused] = /^(?:(.+)_failing|refused_(.+))$/.exec(problem) ?? []
  if (collector !== undefined) return `${collectorWords(collector)} fails`
  return refused === undefined ? problem : `the hub refuses its ${refused}`
}

/** `disk` → `disk collector`, `custom.backup` → `plugin backup`. */
export function collectorWords(collector: string): string {
  if (collector === 'plugins') return 'the list of plugins'
  return collector.startsWith('custom.') ? `plugin ${collector.slice('custom.'.length)}` : `${collector} collector`
}

type Present = Pick<AgentSummary, 'status' | 'statusReason' | 'statusSince'>

/** What follows the status: `for 3 h: shut down`; empty where the machine is active and was not awaited. */
export function presenceWords({ status, statusReason, statusSince }: Present, nowMs: number): string {
  if (status === 'ACTIVE') return statusReason === AWAITED ? 'expected back: the hub was away' : ''
  const since = timeOf(statusSince)
  const why = statusReason === '' ? '' : reasonWords(statusReason)
  if (since === null || statusReason === NEVER) return why
  const time = `for ${brief((nowMs - since) / 1000)}`
  return why === '' ? time : `${time}: ${why}`
}

/** The same in the other order, where the status stands apart: `shut down · 3 h`. */
export function whyAndSince({ status, statusReason, statusSince }: Present, nowMs: number): string {
  const since = timeOf(statusSince)
  if (status === 'ACTIVE' || since === null || statusReason === NEVER) return presenceWords({ status, statusReason, statusSince: null }, nowMs)
  const time = brief((nowMs - since) / 1000)
  return statusReason === '' ? time : `${reasonWords(statusReason)} · ${time}`
}

const AGREEING_MS = 1_000
const OFF_MS = 5_000

/** A machine's clock against the hub's: `12 s ahead of the hub’s`. */
export function clockWords(offsetMs: number | null): string {
  if (offsetMs === null) return 'not compared yet'
  if (Math.abs(offsetMs) < AGREEING_MS) return 'agrees with the hub’s'
  return `${duration(Math.abs(offsetMs) / 1000)} ${offsetMs > 0 ? 'ahead of' : 'behind'} the hub’s`
}

/** Whether a clock is so far off that people should know. */
export function clockIsOff(offsetMs: number | null): boolean {
  return offsetMs !== null && Math.abs(offsetMs) > OFF_MS
}
