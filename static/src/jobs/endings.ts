import type { CommandReason, CommandStatus, CommandView } from '../generated/protocol'
import { bytes, duration, timeOf } from '../text/format.ts'
import { commandReasonWords, isFinished } from '../text/words.ts'

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
/** What stands beside the status for ends that have no exit code of their own. */
const MARKS: Partial<Record<CommandReason, string>> = {
  timeout: 'timeout',
  expired: 'expired',
  denied_by_agent: 'denied',
  start_failed: 'not started',
  interrupted: 'interrupted',
  unknown: 'end unknown',
}
/** Ends that the hub or a person brought about: the signal that did it tells nothing more. */
const ENDED_FROM_OUTSIDE: readonly CommandReason[] = ['timeout', 'cancelled_by_person', 'interrupted']

type Ending = Pick<CommandView, 'status' | 'reason' | 'exitCode' | 'result' | 'startedAt' | 'finishedAt' | 'truncated' | 'timeoutSec' | 'outputBytes' | 'keptBytes'>

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

/** What stands in brackets after the status in a list: `3`, `SIGKILL`, `timeout`; empty where the status says all. */
export function endingMark(status: CommandStatus, reason: CommandReason | null, exitCode: number | null): string {
  const word = reason === null ? undefined : MARKS[reason]
  if (word !== undefined) return word
  if (status !== 'FAILED' || exitCode === null || exitCode === 0) return ''
  return signalOf(exitCode) ?? String(exitCode)
}

/** Why a job ended, as far as its exit code does not say: `timeout after 60 s`, `denied by the machine’s policy: …`. */
export function reasonWords({ reason, result, timeoutSec }: Pick<Ending, 'reason' | 'result' | 'timeoutSec'>): string {
  if (reason === null || reason === 'exit_code') return ''
  if (reason === 'timeout' && timeoutSec !== null) return `timeout after ${duration(timeoutSec)}`
  if (reason === 'expired' && result !== '') return result
  const words = commandReasonWords(reason)
  return result !== '' && EXPLAINED.includes(reason) ? `${words}: ${result}` : words
}

/** What the machine tells beside how the job ended: `2 of its processes went on: 41, 42`; empty where that is nothing. */
export function besideWords({ status, reason, result }: Pick<Ending, 'status' | 'reason' | 'result'>): string {
  if (!isFinished(status) || reason === 'expired' || (reason !== null && EXPLAINED.includes(reason))) return ''
  if (status === 'COMPLETED' && !result.startsWith('ended ')) return result
  const end = result.indexOf('; ')
  return end === -1 ? '' : result.slice(end + 2)
}

/** How a job goes or has ended, beside its status: `exit code 1 · 0.4 s`, `timeout after 2 s · 2.0 s`. */
export function endingWords(command: Ending, nowMs: number): string {
  const { reason, exitCode } = command
  const words: string[] = []
  const outside = reason !== null && ENDED_FROM_OUTSIDE.includes(reason)
  if (exitCode !== null && !(outside && signalOf(exitCode) !== null)) words.push(exitWords(exitCode))
  const why = reasonWords(command)
  if (why !== '') words.push(why)
  const took = tookWords(command, nowMs)
  if (took !== '') words.push(took)
  const beside = besideWords(command)
  if (beside !== '') words.push(beside)
  if (command.truncated) words.push(truncationWords(command))
  return words.join(' · ')
}

function truncationWords({ outputBytes, keptBytes }: Pick<Ending, 'outputBytes' | 'keptBytes'>): string {
  const total = (sizes: Readonly<Record<string, number | undefined>>) => Object.values(sizes).reduce<number>((sum, size) => sum + (size ?? 0), 0)
  const [written, kept] = [total(outputBytes), total(keptBytes)]
  return written > kept ? `of ${bytes(written)} of output ${bytes(kept)} are kept` : 'the output was longer than what is kept'
}

/** How long a job ran, or runs; empty for one that never began. */
export function tookWords({ status, startedAt, finishedAt }: Pick<Ending, 'status' | 'startedAt' | 'finishedAt'>, nowMs: number): string {
  const finished = isFinished(status)
  const started = timeOf(startedAt)
  const until = finished ? timeOf(finishedAt) : nowMs
  return started === null || until === null ? '' : spanWords((until - started) / 1000, finished)
}

function spanWords(seconds: number, finished: boolean): string {
  if (!finished || seconds >= 10) return duration(seconds)
  return seconds < 0.1 ? 'under 0.1 s' : `${seconds.toFixed(1)} s`
}
