import type { Action, CommandView, CommandsCreate } from '../generated/protocol'
import { type Quoting, argvLine, parseArgv } from './argv.ts'
import { numberIn, textIn, wordsIn } from './order_words.ts'

export const ACTIONS: readonly Action[] = ['exec', 'script', 'service', 'packages', 'kill', 'reboot', 'agent:restart']
export const SERVICE_VERBS = ['status', 'start', 'stop', 'restart', 'reload', 'enable', 'disable'] as const
export const PACKAGE_VERBS = ['install', 'upgrade', 'remove', 'refresh'] as const
export const SIGNALS = ['TERM', 'KILL', 'HUP', 'INT', 'USR1', 'USR2'] as const
export const SCRIPT_MAX_BYTES = 96 * 1024
export const WAIT_SECONDS = 15 * 60

/** How long each usually may run. */
const USUAL_SECONDS: Record<Action, number> = {
  exec: 60,
  script: 300,
  service: 60,
  packages: 1800,
  kill: 60,
  reboot: 60,
  'agent:restart': 60,
}

export interface Variable {
  name: string
  value: string
}

/** What a person has filled in, of every action, so that changing one's mind costs nothing. */
export interface Draft {
  action: Action
  line: string
  script: string
  interpreter: string
  scriptLine: string
  serviceVerb: string
  serviceName: string
  packagesVerb: string
  packageNames: string
  pid: number | null
  signal: string
  delaySec: number
  variables: Variable[]
  workingDirectory: string
  runAs: string
  timeoutSec: number
  expiresInSec: number
  /** Why: for the audit, and for policies that ask for it. */
  reason: string
}

export type DraftField = Exclude<keyof Draft, 'action'> | 'machine'
export type Order = Pick<CommandsCreate, 'commandType' | 'commandData' | 'timeoutSec' | 'expiresInSec' | 'reason'>
export type Checked = { order: Order } | { field: DraftField; problem: string }

export function emptyDraft(action: Action = 'exec'): Draft {
  return {
    action,
    line: '',
    script: '',
    interpreter: 'sh',
    scriptLine: '',
    serviceVerb: 'status',
    serviceName: '',
    packagesVerb: 'install',
    packageNames: '',
    pid: null,
    signal: 'TERM',
    delaySec: 5,
    variables: [],
    workingDirectory: '',
    runAs: '',
    timeoutSec: USUAL_SECONDS[action],
    expiresInSec: WAIT_SECONDS,
    reason: '',
  }
}

/** `draft` with another action; a time to run that nobody changed follows. */
export function withAction(draft: Draft, action: Action): Draft {
  const isUsual = draft.timeoutSec === USUAL_SECONDS[draft.action]
  return { ...draft, action, timeoutSec: isUsual ? USUAL_SECONDS[action] : draft.timeoutSec }
}

/** What `draft` asks of a machine that is quoted for as `quoting`, or the first thing that is missing. */
export function orderOf(draft: Draft, quoting: Quoting): Checked {
  const data = dataOf(draft, quoting)
  if ('problem' in data) return data
  const { action, timeoutSec, expiresInSec, reason } = draft
  return { order: { commandType: action, commandData: data.data, timeoutSec, expiresInSec, reason: reason.trim() } }
}

type Found = { data: Record<string, unknown> } | { field: DraftField; problem: string }

function dataOf(draft: Draft, quoting: Quoting): Found {
  switch (draft.action) {
    case 'exec': {
      const words = wordsOf(draft.line, quoting)
      if ('problem' in words) return { field: 'line', problem: words.problem }
      return { data: { argv: words.argv, ...processOf(draft) } }
    }
    case 'script': {
      const words = draft.scriptLine.trim() === '' ? { argv: [] } : wordsOf(draft.scriptLine, quoting)
      if (draft.script.trim() === '') return { field: 'script', problem: 'Type a script, or drop a file here.' }
      if ('problem' in words) return { field: 'scriptLine', problem: words.problem }
      return { data: { script: draft.script, interpreter: draft.interpreter.trim(), arguments: words.argv, ...processOf(draft) } }
    }
    case 'service':
      if (draft.serviceName.trim() === '') return { field: 'serviceName', problem: 'Name the service.' }
      return { data: { verb: draft.serviceVerb, name: draft.serviceName.trim() } }
    case 'packages': {
      const names = draft.packageNames.split(/[\s,]+/).filter((name) => name !== '')
      const needsNames = draft.packagesVerb === 'install' || draft.packagesVerb === 'remove'
      if (needsNames && names.length === 0) return { field: 'packageNames', problem: `Name what to ${draft.packagesVerb}.` }
      return { data: { verb: draft.packagesVerb, names: draft.packagesVerb === 'refresh' ? [] : names } }
    }
    case 'kill':
      if (draft.pid === null) return { field: 'pid', problem: 'Give the number of the process.' }
      return { data: { pid: draft.pid, signal: draft.signal } }
    case 'reboot':
      return { data: { delaySec: draft.delaySec } }
    case 'agent:restart':
      return { data: {} }
  }
}

function wordsOf(line: string, quoting: Quoting): { argv: string[] } | { problem: string } {
  const parsed = parseArgv(line, quoting)
  return 'problem' in parsed ? parsed : { argv: parsed.argv }
}

/** What is not filled in is left out: the agent's own then holds. */
function processOf({ variables, workingDirectory, runAs }: Draft): Record<string, unknown> {
  const named = variables.filter(({ name, value }) => name !== '' || value !== '')
  return {
    ...(named.length > 0 && { environment: Object.fromEntries(named.map(({ name, value }) => [name, value])) }),
    ...(workingDirectory.trim() !== '' && { workingDirectory: workingDirectory.trim() }),
    ...(runAs.trim() !== '' && { runAs: runAs.trim() }),
  }
}

/** What `command` was, ready to be asked for again. A script of which only the hash is known has an empty text. */
export function draftOf(command: Pick<CommandView, 'commandType' | 'commandData'> & { timeoutSec?: number | null }, quoting: Quoting): Draft {
  const data = command.commandData
  const action = ACTIONS.find((one) => one === command.commandType) ?? 'exec'
  const environment = data.environment
  const pairs = typeof environment === 'object' && environment !== null ? Object.entries(environment) : []
  const empty = emptyDraft(action)
  return {
    ...empty,
    line: lineFor(wordsIn(data, 'argv'), quoting),
    script: textIn(data, 'script'),
    interpreter: textIn(data, 'interpreter') || empty.interpreter,
    scriptLine: lineFor(wordsIn(data, 'arguments'), quoting),
    serviceVerb: action === 'service' ? textIn(data, 'verb') : empty.serviceVerb,
    serviceName: action === 'service' ? textIn(data, 'name') : '',
    packagesVerb: action === 'packages' ? textIn(data, 'verb') : empty.packagesVerb,
    packageNames: wordsIn(data, 'names').join(' '),
    pid: numberIn(data, 'pid'),
    signal: textIn(data, 'signal') || empty.signal,
    delaySec: numberIn(data, 'delaySec') ?? empty.delaySec,
    variables: pairs.map(([name, value]) => ({ name, value: String(value) })),
    workingDirectory: textIn(data, 'workingDirectory'),
    runAs: textIn(data, 'runAs'),
    timeoutSec: command.timeoutSec ?? empty.timeoutSec,
  }
}

/** `argv` as a line for a field of one line: in JSON where quotes could not carry it there. */
export function lineFor(argv: readonly string[], quoting: Quoting): string {
  if (argv.some((word) => /[\u0000-\u001f]/.test(word))) return JSON.stringify(argv)
  if (quoting === 'posix') return argvLine(argv)
  return argv.every((word) => /^[\w@%+=:,./\\-]+$/.test(word)) ? argv.join(' ') : JSON.stringify(argv)
}

const FIELDS: readonly [RegExp, DraftField][] = [
  [/^\$\.agentId/, 'machine'],
  [/^\$\.timeoutSec/, 'timeoutSec'],
  [/^\$\.expiresInSec/, 'expiresInSec'],
  [/^\$\.reason/, 'reason'],
  [/^\$\.commandData\.argv/, 'line'],
  [/^\$\.commandData\.script/, 'script'],
  [/^\$\.commandData\.interpreter/, 'interpreter'],
  [/^\$\.commandData\.arguments/, 'scriptLine'],
  [/^\$\.commandData\.environment/, 'variables'],
  [/^\$\.commandData\.workingDirectory/, 'workingDirectory'],
  [/^\$\.commandData\.runAs/, 'runAs'],
  [/^\$\.commandData\.names/, 'packageNames'],
  [/^\$\.commandData\.name/, 'serviceName'],
  [/^\$\.commandData\.pid/, 'pid'],
  [/^\$\.commandData\.signal/, 'signal'],
  [/^\$\.commandData\.delaySec/, 'delaySec'],
]

/** The field that the hub's refusal is about; null where it is about none of them. */
export function fieldOf(path: string | null): DraftField | null {
  return path === null ? null : (FIELDS.find(([pattern]) => pattern.test(path))?.[1] ?? null)
}

/** The interpreter that a script asks for by its first line or its file's name; null where neither tells. */
export function interpreterOf(fileName: string, script: string): string | null {
  const shebang = /^#!\s*(?:\S*\/env\s+(?:-S\s+)?)?(?:\S*\/)?([A-Za-z0-9][\w.+-]*)/.exec(script)?.[1]
  if (shebang !== undefined) return shebang
  const ending = /\.([a-z0-9]+)$/i.exec(fileName)?.[1]?.toLowerCase()
  return ending === undefined ? null : (BY_ENDING[ending] ?? null)
}

const BY_ENDING: Record<string, string> = { sh: 'sh', bash: 'bash', zsh: 'zsh', py: 'python3', pl: 'perl', rb: 'ruby', js: 'node', ps1: 'pwsh', lua: 'lua' }
