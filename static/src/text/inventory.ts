import type { InventorySection } from '../generated/protocol'
import { csvOf } from './csv.ts'
import { NONE, bytes, count } from './format.ts'

export interface Package {
  name: string
  version: string
  source: string
}

export interface ServiceUnit {
  name: string
  state: string
  starts: string
}

export type Facts = readonly (readonly [string, string])[]
type Body = Record<string, unknown>

export function sectionOf(sections: readonly InventorySection[], name: string): InventorySection | null {
  return sections.find((one) => one.section === name) ?? null
}

/** What the machine is made of; what it does not tell is left out. */
export function hardwareFacts(body: Body): Facts {
  const [cores, threads] = [number(body, 'cpuCores'), number(body, 'cpuThreads')]
  const drives = items(body, 'drives').map(driveWords)
  return told([
    ['Maker', text(body, 'manufacturer')],
    ['Model', text(body, 'model')],
    ['Serial number', text(body, 'serial')],
    ['Board', text(body, 'board')],
    ['Firmware', text(body, 'firmware')],
    ['Processor', text(body, 'cpuModel')],
    ['Cores', cores === 0 ? '' : `${cores}${threads > cores ? `, ${count(threads, 'thread')}` : ''}`],
    ['Memory', size(number(body, 'memoryTotalBytes'))],
    ['Virtualisation', text(body, 'virtualization')],
    ...drives.map((words, at): [string, string] => [drives.length > 1 ? `Drive ${at + 1}` : 'Drive', words]),
  ])
}

export function systemFacts(body: Body): Facts {
  return told([
    ['System', [text(body, 'name'), text(body, 'version')].filter((word) => word !== '').join(' ')],
    ['Kernel', text(body, 'kernel')],
    ['Architecture', text(body, 'arch')],
    ['Time zone', text(body, 'timezone')],
    ['Installed', text(body, 'installedAt')],
  ])
}

function driveWords(drive: Body): string {
  const turning = drive.rotational
  const kind = turning === true ? 'rotating' : turning === false ? 'solid state' : ''
  return [text(drive, 'name'), text(drive, 'model'), size(number(drive, 'sizeBytes')), kind].filter((word) => word !== '').join(' · ')
}

function size(value: number): string {
  return value === 0 ? '' : bytes(value)
}

function told(facts: Facts): Facts {
  return facts.filter(([, words]) => words !== '')
}

export function packagesOf(body: Body): Package[] {
  return items(body, 'items').map((item) => ({ name: text(item, 'name'), version: text(item, 'version'), source: text(item, 'source') }))
}

export function servicesOf(body: Body): ServiceUnit[] {
  return items(body, 'items').map((item) => ({ name: text(item, 'name'), state: text(item, 'state'), starts: text(item, 'starts') }))
}

/** Those of `rows` in which every word of `search` is found, in any field and case. */
export function found<T extends object>(rows: readonly T[], search: string): T[] {
  const words = search.toLowerCase().split(/\s+/).filter((word) => word !== '')
  if (words.length === 0) return [...rows]
  return rows.filter((row) => {
    const all = Object.values(row).join('\n').toLowerCase()
    return words.every((word) => all.includes(word))
  })
}

/** Rows of the same fields as CSV, with the names of the fields above. */
export function rowsCsv<T extends object>(rows: readonly T[], fields: readonly (keyof T & string)[]): string {
  return csvOf([[...fields], ...rows.map((row) => fields.map((field) => String(row[field])))])
}

/** Facts as CSV. */
export function factsCsv(facts: Facts): string {
  return csvOf([['fact', 'value'], ...facts])
}

export function orNone(words: string): string {
  return words === '' ? NONE : words
}

function text(body: Body, name: string): string {
  const value = body[name]
  return typeof value === 'string' ? value : ''
}

function number(body: Body, name: string): number {
  const value = body[name]
  return typeof value === 'number' && Number.isFinite(value) ? value : 0
}

function items(body: Body, name: string): Body[] {
  const value = body[name]
  return Array.isArray(value) ? value.filter((item): item is Body => typeof item === 'object' && item !== null) : []
}
