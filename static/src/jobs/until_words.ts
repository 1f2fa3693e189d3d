import type { CommandView } from '../generated/protocol'
import { brief, clockOf, dayOf, timeOf } from '../text/format.ts'

const DAY_MS = 24 * 3600 * 1000

/** What an open job waits for, and until when; empty for one that has ended. */
export function untilWords(command: Pick<CommandView, 'status' | 'expiresAt' | 'startedAt' | 'timeoutSec'>, nowMs: number): string {
  switch (command.status) {
    case 'PENDING':
      return `waits for the machine until ${momentWords(Date.parse(command.expiresAt), nowMs)}`
    case 'SENT':
      return `must begin by ${momentWords(Date.parse(command.expiresAt), nowMs)}`
    case 'EXECUTING': {
      const started = timeOf(command.startedAt)
      if (started === null || command.timeoutSec === null) return ''
      return `is stopped at ${momentWords(started + command.timeoutSec * 1000, nowMs)}`
    }
    default:
      return ''
  }
}

/** A time to come: `14:05:09, in 12 min`; with its day where that is not today. */
export function momentWords(ms: number, nowMs: number): string {
  const at = new Date(ms)
  const day = ms - nowMs > DAY_MS || dayOf(at) !== dayOf(new Date(nowMs)) ? `${dayOf(at)} ` : ''
  return `${day}${clockOf(at)}${ms > nowMs ? `, in ${brief((ms - nowMs) / 1000)}` : ''}`
}
