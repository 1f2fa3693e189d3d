import type { AgentStatus, AlertSeverity, CommandReason, CommandStatus } from '../generated/protocol'

export const STATUS_WORDS: Record<AgentStatus, string> = {
  ACTIVE: 'Active',
  OFFLINE: 'Offline',
  ERROR: 'Error',
  MAINTENANCE: 'Maintenance',
}

export const SEVERITY_WORDS: Record<AlertSeverity, string> = {
  CRITICAL: 'Critical',
  ERROR: 'Error',
  WARNING: 'Warning',
  INFO: 'Info',
}

export const COMMAND_WORDS: Record<CommandStatus, string> = {
  PENDING: 'Pending',
  SENT: 'Sent',
  EXECUTING: 'Executing',
  COMPLETED: 'Completed',
  FAILED: 'Failed',
  CANCELLED: 'Cancelled',
}

const COMMAND_REASONS: Record<CommandReason, string> = {
  exit_code: 'ended with an exit code other than 0',
  timeout: 'timeout',
  expired: 'expired before the machine could take it',
  denied_by_agent: 'denied by the machine’s policy',
  start_failed: 'could not be started',
  interrupted: 'interrupted: nobody can say how it ended',
  cancelled_by_person: 'cancelled',
  unknown: 'nobody can say how it ended',
}

export function commandReasonWords(reason: CommandReason): string {
  return COMMAND_REASONS[reason]
}

/** Who did something: `user:admin` → `admin`; what is no person keeps its kind, as in `key:deploy`. */
export function actorWords(actor: string): string {
  return actor.startsWith('user:') ? actor.slice('user:'.length) : actor
}

export function isFinished(status: CommandStatus): boolean {
  return status === 'COMPLETED' || status === 'FAILED' || status === 'CANCELLED'
}

/** `cpu_percent` as a heading: `Cpu percent`; the usual abbreviations in capitals. */
export function kindWords(kind: string): string {
  const words = kind.replaceAll(/[._:-]+/g, ' ').trim().toLowerCase()
  const named = words.replaceAll(/\b(cpu|os|ip)\b/g, (word) => word.toUpperCase())
  return named.charAt(0).toUpperCase() + named.slice(1)
}

const SYSTEMS: Record<string, string> = { linux: 'Linux', darwin: 'macOS', macos: 'macOS', windows: 'Windows' }

/** `linux`, `Debian 12` → `Debian 12`; `windows`, `Server 2022` → `Windows Server 2022`. */
export function systemWords(osType: string, osVersion: string): string {
  const system = SYSTEMS[osType.toLowerCase()] ?? osType
  if (osVersion === '') return system
  if (/^[A-Z][a-z]+/.test(osVersion) && system === 'Linux') return osVersion
  return osVersion.toLowerCase().startsWith(system.toLowerCase()) ? osVersion : `${system} ${osVersion}`
}

/** A text with a capital at its start and a stop at its end. */
export function sentence(text: string): string {
  const start = text.charAt(0).toUpperCase() + text.slice(1)
  return start === '' || /[.!?]$/.test(start) ? start : `${start}.`
}

/** `message` with how long to wait after it, unless it says so itself. */
export function withWait(message: string, seconds: number | null): string {
  return seconds === null || /try again in \d/i.test(message) ? message : `${message} Try again in ${seconds} s.`
}
