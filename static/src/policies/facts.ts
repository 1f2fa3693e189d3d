import type { Capability, Check, CheckOperator, CheckState, Fact } from '../generated/protocol'

export type FactKind = 'text' | 'version' | 'number' | 'flag'

interface FactWords {
  words: string
  kind: FactKind
  /** What the name says which one is meant of. */
  named?: 'package' | 'service'
}

/** What the hub knows of machines, as KINDS in protocol/policies.py has it. */
export const FACTS: Record<Fact, FactWords> = {
  'security.firewall_enabled': { words: 'Firewall is on', kind: 'flag' },
  'security.antivirus_enabled': { words: 'Antivirus is on', kind: 'flag' },
  'security.automatic_updates_enabled': { words: 'Automatic updates are on', kind: 'flag' },
  'security.reboot_required': { words: 'Restart is due', kind: 'flag' },
  'security.updates_available': { words: 'Updates available', kind: 'number' },
  'security.security_updates': { words: 'Security updates available', kind: 'number' },
  'security.updates_age_days': { words: 'Days since it looked for updates', kind: 'number' },
  'security.facts_age_days': { words: 'Days since it told of its security', kind: 'number' },
  package: { words: 'Package', kind: 'version', named: 'package' },
  'service.state': { words: 'State of a service', kind: 'text', named: 'service' },
  'service.starts': { words: 'How a service starts', kind: 'text', named: 'service' },
  'os.name': { words: 'Operating system', kind: 'text' },
  'os.version': { words: 'Version of the system', kind: 'version' },
  'os.kernel': { words: 'Kernel', kind: 'version' },
  'os.arch': { words: 'Architecture', kind: 'text' },
  'os.timezone': { words: 'Time zone', kind: 'text' },
  'agent.version': { words: 'Version of the agent', kind: 'version' },
  'hardware.manufacturer': { words: 'Manufacturer', kind: 'text' },
  'hardware.model': { words: 'Model', kind: 'text' },
  'hardware.firmware': { words: 'Firmware', kind: 'text' },
  'hardware.virtualization': { words: 'Virtualization', kind: 'text' },
  'hardware.cpu_cores': { words: 'CPU cores', kind: 'number' },
  'hardware.memory_total_bytes': { words: 'Memory in bytes', kind: 'number' },
}

export const OPERATOR_WORDS: Record<CheckOperator, string> = {
  equals: 'is',
  not_equals: 'is not',
  at_least: 'is at least',
  at_most: 'is at most',
  contains: 'contains',
  one_of: 'is one of',
  version_at_least: 'is version … or newer',
  present: 'is there',
  absent: 'is not there',
}

export const STATE_WORDS: Record<CheckState, string> = { failed: 'Failed', unknown: 'Unknown', passed: 'Passed' }

/** What a machine may be asked to do; the first is all of it. */
export const CAPABILITY_WORDS: Record<Capability, string> = {
  jobs: 'Run jobs at all',
  scripts: 'Run scripts',
  services: 'Start and stop services',
  processes: 'End processes',
  packages: 'Install and remove packages',
  reboot: 'Restart the machine',
}

const OPERATORS: Record<FactKind, readonly CheckOperator[]> = {
  text: ['equals', 'not_equals', 'contains', 'one_of'],
  version: ['version_at_least', 'equals', 'not_equals', 'contains', 'one_of'],
  number: ['at_most', 'at_least', 'equals', 'not_equals'],
  flag: ['equals'],
}

/** How this fact can be compared, the usual way first. */
export function operatorsOf(fact: Fact): readonly CheckOperator[] {
  const { kind, named } = FACTS[fact]
  return named ? [...OPERATORS[kind], 'present', 'absent'] : OPERATORS[kind]
}

/** Whether this comparison takes a value. */
export function takesValue(operator: CheckOperator): boolean {
  return operator !== 'present' && operator !== 'absent'
}

/** A check as fields hold it: the value as text, `true` or `false` of a flag, a list with commas. */
export interface CheckDraft {
  /** Tells the rows of a form apart. */
  key: number
  name: string
  fact: Fact
  operator: CheckOperator
  subject: string
  value: string
  severity: Check['severity']
}

export function checkDraftOf(check: Check, key: number): CheckDraft {
  const { name, fact, operator, subject, severity } = check
  const value = Array.isArray(check.value) ? check.value.join(', ') : check.value === null ? '' : String(check.value)
  return { key, name, fact, operator, subject, severity, value }
}

/** The check as the hub takes it; what cannot be is found by `checkProblem` before. */
export function checkOf(draft: CheckDraft): Check {
  const { name, fact, operator, severity } = draft
  const subject = FACTS[fact].named ? draft.subject.trim() : ''
  return { name: name.trim(), fact, operator, subject, severity, value: valueOf(draft) }
}

function valueOf({ fact, operator, value }: CheckDraft): Check['value'] {
  if (!takesValue(operator)) return null
  if (operator === 'one_of') return listOf(value)
  switch (FACTS[fact].kind) {
    case 'flag':
      return value === 'true'
    case 'number':
      return Number(value)
    default:
      return value.trim()
  }
}

/** Why the hub would refuse this check; empty where it would not. `names` are those of the checks before it. */
export function checkProblem(draft: CheckDraft, names: readonly string[]): string {
  const { fact, operator, value } = draft
  const name = draft.name.trim().toLowerCase()
  if (name === '') return 'Give the check a name.'
  if (names.some((other) => other.trim().toLowerCase() === name)) return 'Another check has this name.'
  const { kind, named } = FACTS[fact]
  if (named && draft.subject.trim() === '') return `Say which ${named}.`
  if (!takesValue(operator)) return ''
  if (operator === 'one_of') return listOf(value).length === 0 ? 'Give at least one value.' : ''
  if (kind === 'number') return value.trim() === '' || !Number.isFinite(Number(value)) ? 'Give a number.' : ''
  return value.trim() === '' ? 'Give a value.' : ''
}

/** `a, b` as its parts. */
export function listOf(text: string): string[] {
  return text.split(',').map((part) => part.trim()).filter((part) => part !== '')
}

type Example = Omit<CheckDraft, 'key'>
const example = (name: string, fact: Fact, operator: CheckOperator, value: string, severity: Check['severity'] = 'WARNING', subject = ''): Example => ({ name, fact, operator, subject, value, severity })

/** Checks to begin with. */
export const EXAMPLES: readonly Example[] = [
  example('Firewall is on', 'security.firewall_enabled', 'equals', 'true', 'ERROR'),
  example('Looked for updates within 30 days', 'security.updates_age_days', 'at_most', '30'),
  example('No security updates wait', 'security.security_updates', 'at_most', '0'),
  example('No restart is due', 'security.reboot_required', 'equals', 'false'),
  example('No telnet server', 'package', 'absent', '', 'ERROR', 'telnetd'),
]
