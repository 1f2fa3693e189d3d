import type { CommandReason, CommandStatus, CommandView } from '../generated/protocol'
import { duration, timeOf } from './format.ts'
import { commandReasonWords, isFinished } from './words.ts'

/** Signals that have the same number on every system. */
const SIGNALS: Record<number, string> = {
  1: 'SIGHUP',
  2: 'SIGINT',
  3: 'SIGQUIT',
  4: 'SIGILL',
  5: 'SIGTRAP',
  6: 'SIGABRT',
  8: 'SIGFPE',
  9: 'SIGKILL',
  11: 'SIGSEGV',
  13: 'SIGPIPE',
  14: 'SIGALRM',
  15: 'SIGTERM',
}
const LAST_SIGNAL = 64

/** Reasons of which the result tells more. */
const EXPLAINED: readonly CommandReason[] = ['denied_by_agent', 'start_failed', 'unknown']
/** Ends that the hub or a person brought about: the signal that did it tells nothing more. */
const ENDED_FROM_OUTSIDE: readonly CommandReason[] = ['timeout', 'cancelled_by_person', 'interrupted']

type Ending = Pick<CommandView, 'status' | 'reason' | 'exitCode' | 'result' | 'startedAt' | 'finishedAt' | 'truncated'>

/** An exit code as the agent tells it: negative where a signal ended the program. Null where there is none. */
function signalOf(exitCode: number): string | null {
  if (exitCode >= 0 || exitCode < -LAST_SIGNAL) return null
  return SIGNALS[-exitCode] ?? `signal ${-exitCode}`
}

/** `exit code 3`, `ended by SIGTERM`. */
export function exitWords(exitCode: number): string {
  const signal = signalOf(exitCode)
  return signal === null ? `exit code ${exitCode}` : `ended by ${signal}`
}

/** What stands in brackets after the status in a list: `3`, `SIGKILL`, `timed out`; empty where the status says all. */
export function endingMark(status: CommandStatus, reason: CommandReason | null, exitCode: number | null): string {
  if (reason === 'timeout') return 'timed out'
  if (status !== 'FAILED' || exitCode === null || exitCode === 0) return ''
  return signalOf(exitCode) ?? String(exitCode)
}

/** How a command goes or has ended, beside its status: `exit code 1 · 0.4 s`, `stopped: its time was up · 2.0 s`. */
export function endingWords(command: Ending, nowMs: number): string {
  const { status, reason, exitCode, result } = command
  const finished = isFinished(status)
  const words: string[] = []
  const outside = reason !== null && ENDED_FROM_OUTSIDE.includes(reason)
  if (exitCode !== null && !(outside && signalOf(exitCode) !== null)) words.push(exitWords(exitCode))
  if (reason !== null && reason !== 'exit_code') words.push(commandReasonWords(reason))
  if (result !== '' && reason !== null && EXPLAINED.includes(reason)) words.push(result)
  const started = timeOf(command.startedAt)
  const until = finished ? timeOf(command.finishedAt) : nowMs
  if (started !== null && until !== null) words.push(tookWords((until - started) / 1000, finished))
  if (command.truncated) words.push('the output was longer than what is kept')
  return words.join(' · ')
}

function tookWords(seconds: number, finished: boolean): string {
  if (!finished || seconds >= 10) return duration(seconds)
  return seconds < 0.1 ? 'under 0.1 s' : `${seconds.toFixed(1)} s`
}
