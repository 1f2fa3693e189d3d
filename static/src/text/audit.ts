import type { AuditEntryView } from '../generated/protocol'
import { csvOf } from './csv.ts'

const COLUMNS = ['at', 'actor', 'action', 'target', 'detail', 'hub_id', 'number', 'hash']

/** `detail` as lines to read: nested names joined by dots, each with its value. */
export function detailLines(detail: Record<string, unknown>): [string, string][] {
  return Object.entries(detail).flatMap(([name, value]) => linesOf(name, value))
}

function linesOf(name: string, value: unknown): [string, string][] {
  if (value === null || value === undefined || value === '') return [[name, '–']]
  if (typeof value !== 'object') return [[name, String(value)]]
  if (Array.isArray(value) && value.every((item) => typeof item !== 'object')) return [[name, value.length === 0 ? '–' : value.join(', ')]]
  const inner = Object.entries(value)
  return inner.length === 0 ? [[name, '–']] : inner.flatMap(([key, item]) => linesOf(`${name}.${key}`, item))
}

/** What a row tells of `detail` while it is folded. */
export function detailSummary(detail: Record<string, unknown>): string {
  return detailLines(detail)
    .map(([name, value]) => `${name}: ${value}`)
    .join(' · ')
}

const ID = /\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g

/** Ids by their start, where the whole is a click away. */
export function shortIds(text: string): string {
  return text.replaceAll(ID, '$1…')
}

/** The machine that `target` names; null where it names none. */
export function agentIn(target: string): string | null {
  return /^agent:(.+)$/.exec(target)?.[1] ?? null
}

export function auditCsv(entries: readonly AuditEntryView[]): string {
  const rows = entries.map((entry) => [
    entry.at,
    entry.actor,
    entry.action,
    entry.target,
    JSON.stringify(entry.detail),
    entry.hubId,
    entry.number,
    entry.hash,
  ])
  return csvOf([COLUMNS, ...rows])
}

export function auditJson(entries: readonly AuditEntryView[]): string {
  return `${JSON.stringify(entries, null, 2)}\n`
}
