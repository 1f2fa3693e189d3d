import type { Action, Capability, CommandRules, ListedScript, PolicyTerms } from '../generated/protocol'
import { actionName } from '../jobs/order_words.ts'
import { tagsOf, tagsProblem } from '../text/labels.ts'
import { type CheckDraft, checkDraftOf, checkOf, checkProblem } from './facts.ts'

/** A policy as the fields of its form hold it: lists as lines of text. */
export interface Draft {
  name: string
  enabled: boolean
  tagText: string
  turnedOff: Capability[]
  /** Only `allowedActions` may be asked for. */
  onlyActions: boolean
  allowedActions: Action[]
  deniedActions: Action[]
  /** Only what is listed may run. */
  lists: boolean
  programs: string
  scripts: string
  environment: string
  deniedPrograms: string
  deniedScripts: string
  runAs: string
  reasonRequired: boolean
  secondSignatureRequired: boolean
  checks: CheckDraft[]
}

const HASH = /^[0-9a-f]{64}$/
const INTERPRETER = /^[A-Za-z0-9][A-Za-z0-9_.+-]*$/
const USER = /^[A-Za-z0-9_][A-Za-z0-9_.@\\-]*\$?$/

const NO_RULES: CommandRules = {
  allowedActions: null,
  deniedActions: [],
  allowedPrograms: null,
  deniedPrograms: [],
  allowedScripts: null,
  deniedScripts: [],
  allowedEnvironment: [],
  allowedRunAs: null,
  reasonRequired: false,
  secondSignatureRequired: false,
}
export const NEW_POLICY: PolicyTerms = { name: '', enabled: true, tags: [], commands: NO_RULES, turnedOff: [], checks: [] }

export function draftOf(terms: PolicyTerms): Draft {
  const { commands } = terms
  return {
    name: terms.name,
    enabled: terms.enabled,
    tagText: terms.tags.join(' '),
    turnedOff: [...terms.turnedOff],
    onlyActions: commands.allowedActions !== null,
    allowedActions: [...(commands.allowedActions ?? [])],
    deniedActions: [...commands.deniedActions],
    lists: commands.allowedPrograms !== null || commands.allowedScripts !== null,
    programs: (commands.allowedPrograms ?? []).join('\n'),
    scripts: (commands.allowedScripts ?? []).map(({ sha256, interpreter, note }) => [sha256, interpreter, note].join(' ').trim()).join('\n'),
    environment: commands.allowedEnvironment.join(' '),
    deniedPrograms: commands.deniedPrograms.join('\n'),
    deniedScripts: commands.deniedScripts.join('\n'),
    runAs: (commands.allowedRunAs ?? []).join(' '),
    reasonRequired: commands.reasonRequired,
    secondSignatureRequired: commands.secondSignatureRequired,
    checks: terms.checks.map(checkDraftOf),
  }
}

/** The terms that the hub takes. `before`: what the form does not know stays as it was. */
export function termsOf(draft: Draft, before: PolicyTerms): PolicyTerms {
  const runAs = tagsOf(draft.runAs)
  return {
    name: draft.name.trim(),
    enabled: draft.enabled,
    tags: tagsOf(draft.tagText),
    turnedOff: draft.turnedOff,
    commands: {
      ...before.commands,
      allowedActions: draft.onlyActions ? draft.allowedActions : null,
      deniedActions: draft.deniedActions,
      allowedPrograms: draft.lists ? linesOf(draft.programs) : null,
      allowedScripts: draft.lists ? linesOf(draft.scripts).map(scriptOf) : null,
      allowedEnvironment: draft.lists ? tagsOf(draft.environment) : [],
      deniedPrograms: linesOf(draft.deniedPrograms),
      deniedScripts: linesOf(draft.deniedScripts),
      allowedRunAs: runAs.length > 0 ? runAs : null,
      reasonRequired: draft.reasonRequired,
      secondSignatureRequired: draft.secondSignatureRequired,
    },
    checks: draft.checks.map(checkOf),
  }
}

/** Why the hub would refuse this policy, and where; null where it would not. */
export function draftProblem(draft: Draft): string | null {
  if (draft.name.trim() === '') return 'Give the policy a name.'
  const both = draft.onlyActions ? draft.allowedActions.find((action) => draft.deniedActions.includes(action)) : undefined
  if (both !== undefined) return `Actions: “${actionName(both)}” is allowed and denied; take one of them away.`
  const tags = tagsProblem(draft.tagText)
  if (tags !== '') return `Tags: ${tags}.`
  const script = draft.lists ? linesOf(draft.scripts).find((line) => !isScript(line)) : undefined
  if (script !== undefined) return `Scripts: “${shortened(script)}” is not the SHA-256 of a script, in 64 hexadecimal digits, and its interpreter.`
  const denied = linesOf(draft.deniedScripts).find((line) => !HASH.test(line))
  if (denied !== undefined) return `Denied scripts: “${shortened(denied)}” is not a SHA-256 in 64 hexadecimal digits.`
  const user = tagsOf(draft.runAs).find((name) => !USER.test(name))
  if (user !== undefined) return `Run as: “${shortened(user)}” cannot be the name of a user.`
  for (const [at, check] of draft.checks.entries()) {
    const problem = checkProblem(check, draft.checks.slice(0, at).map((other) => other.name))
    if (problem !== '') return `Check ${at + 1}: ${problem}`
  }
  return null
}

/** The lines of a text, without those that are empty. */
export function linesOf(text: string): string[] {
  return text.split('\n').map((line) => line.trim()).filter((line) => line !== '')
}

/** `<sha256> <interpreter> <note>`; the interpreter is `sh` where none is named. */
function scriptOf(line: string): ListedScript {
  const [sha256 = '', interpreter = 'sh', ...note] = line.split(/\s+/)
  return { sha256, interpreter, note: note.join(' ') }
}

function isScript(line: string): boolean {
  const { sha256, interpreter, note } = scriptOf(line)
  return HASH.test(sha256) && INTERPRETER.test(interpreter) && note.length <= 128
}

function shortened(text: string): string {
  return text.length > 40 ? `${text.slice(0, 39)}…` : text
}

function actionsIn(actions: readonly Action[]): string {
  return actions.map((action) => actionName(action).toLowerCase()).join(', ')
}

/** What a policy says, in a few words each. */
export function gist({ commands, turnedOff, checks }: PolicyTerms): string[] {
  const rules: string[] = []
  if (turnedOff.length > 0) rules.push(`${turnedOff.length} turned off`)
  if (commands.allowedPrograms !== null || commands.allowedScripts !== null) rules.push('only listed programs')
  if (commands.allowedActions !== null) rules.push(`only ${actionsIn(commands.allowedActions) || 'no action'}`)
  if (commands.deniedActions.length > 0) rules.push(`never ${actionsIn(commands.deniedActions)}`)
  const denied = commands.deniedPrograms.length + commands.deniedScripts.length
  if (denied > 0) rules.push(`${denied} denied`)
  if (commands.allowedRunAs !== null) rules.push('some users only')
  if (commands.reasonRequired) rules.push('reason')
  if (commands.secondSignatureRequired) rules.push('second signature')
  if (checks.length > 0) rules.push(checks.length === 1 ? '1 check' : `${checks.length} checks`)
  return rules
}
