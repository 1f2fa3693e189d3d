import type { NewestMetric } from '../generated/protocol'
import { ago, bytes, count, percent, plain } from './format.ts'
import { clockWords } from './presence.ts'
import { dataOf, numberIn } from './readings.ts'

/** One line of a panel. `good` and `bad` are marked, by more than a colour. */
export interface Fact {
  word: string
  value: string
  tone: 'plain' | 'good' | 'bad'
}

const LEAST_HEARTBEATS_PERCENT = 95
const LEAST_CERTIFICATE_DAYS = 5
const STREAMS = ['live', 'backfill', 'events']

type Data = Record<string, unknown>

/** What protects the machine, as its agent found it; empty where it has not looked yet. What it cannot tell is said to be unknown. */
export function securityFacts(newest: readonly NewestMetric[], updatesWarning: number, nowMs: number): Fact[] {
  const data: Data = dataOf(newest, 'security')
  if (Object.keys(data).length === 0) return []
  return [
    guard('Firewall', data.firewall_enabled, data.firewall),
    guard('Antivirus', data.antivirus_enabled, data.antivirus),
    updates(data, updatesWarning, nowMs),
    ...(typeof data.reboot_required === 'boolean' ? [{ word: 'Restart', value: data.reboot_required ? 'needed' : 'not needed', tone: data.reboot_required ? 'bad' : 'good' } as const] : []),
    ...(typeof data.automatic_updates_enabled === 'boolean'
      ? [{ word: 'Automatic updates', value: data.automatic_updates_enabled ? 'on' : 'off', tone: data.automatic_updates_enabled ? 'good' : 'plain' } as const]
      : []),
  ]
}

function guard(word: string, enabled: unknown, name: unknown): Fact {
  if (typeof enabled !== 'boolean') return { word, value: 'not known', tone: 'plain' }
  const which = typeof name === 'string' && name !== '' ? ` · ${name}` : ''
  return { word, value: `${enabled ? 'on' : 'off'}${which}`, tone: enabled ? 'good' : 'bad' }
}

function updates(data: Data, warning: number, nowMs: number): Fact {
  const [available, security, asOfMs] = ['updates_available', 'security_updates', 'updates_as_of_ms'].map((name) => numberIn(data, name)) as [number | null, number | null, number | null]
  if (available === null) return { word: 'Updates', value: 'not known', tone: 'plain' }
  const parts = [available === 0 ? 'none waiting' : `${available} waiting`]
  if (security !== null && security > 0) parts.push(`${security} for security`)
  if (asOfMs !== null) parts.push(`as of ${ago(asOfMs, nowMs)}`)
  return { word: 'Updates', value: parts.join(' · '), tone: available > warning || (security ?? 0) > 0 ? 'bad' : available === 0 ? 'good' : 'plain' }
}

/** How the agent itself is; what it does not tell is left out. */
export function agentFacts(newest: readonly NewestMetric[]): Fact[] {
  const data: Data = dataOf(newest, 'agent')
  const facts: Fact[] = []
  const tell = (word: string, name: string, words: (value: number) => string, isBad: (value: number) => boolean = () => false) => {
    const value = numberIn(data, name)
    if (value !== null) facts.push({ word, value: words(value), tone: isBad(value) ? 'bad' : 'plain' })
  }
  tell('Heartbeats answered', 'heartbeat_success_percent', (value) => percent(value), (value) => value < LEAST_HEARTBEATS_PERCENT)
  tell('Answer of the hub', 'round_trip_ms', (value) => `${plain(value, 1)} ms`)
  tell('Its clock', 'clock_ahead_ms', clockWords)
  tell('Certificate', 'certificate_days_left', (value) => (value <= 0 ? 'expired' : `${plain(value, 1)} days left`), (value) => value < LEAST_CERTIFICATE_DAYS)
  tell('Memory', 'rss_bytes', (value) => bytes(value))
  tell('Processor', 'cpu_percent', (value) => `${plain(value)}% of one core`)
  tell('Samples', 'samples_per_second', (value) => `${plain(value)} a second`)
  tell('Reconnects', 'reconnects', (value) => String(value))
  const waiting = sum(data, 'spool_waiting')
  tell('Spool', 'spool_bytes', (value) => `${bytes(value)}${waiting > 0 ? ` · ${count(waiting, 'entry', 'entries')} waiting for the hub` : ''}`)
  const lost = sum(data, 'spool_dropped')
  if (lost > 0) facts.push({ word: 'Lost', value: `${count(lost, 'entry', 'entries')}: see Reports`, tone: 'bad' })
  return facts
}

function sum(data: Data, start: string): number {
  return STREAMS.reduce((total, stream) => total + (numberIn(data, `${start}_${stream}`) ?? 0), 0)
}
