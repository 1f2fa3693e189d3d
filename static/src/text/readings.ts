import type { MetricValue, NewestMetric } from '../generated/protocol'

/** The newest samples of one machine, taken apart by what they are of. Nothing in them is taken for granted. */

export interface Disk {
  metricType: string
  mount: string
  fsType: string
  percent: number | null
  usedBytes: number | null
  totalBytes: number | null
  readPerSec: number | null
  writtenPerSec: number | null
  atMs: number
}

export interface Interface {
  metricType: string
  name: string
  isUp: boolean
  speedMbps: number | null
  receivedPerSec: number | null
  sentPerSec: number | null
  errors: number
  drops: number
  atMs: number
}

export interface Sensor {
  metric: string
  name: string
  celsius: number
}

export interface Process {
  pid: number
  name: string
  user: string
  cpuPercent: number | null
  memoryBytes: number | null
}

export interface Login {
  user: string
  host: string
  sinceMs: number | null
}

export interface Plugin {
  metricType: string
  name: string
  labels: readonly (readonly [string, string])[]
  figures: readonly { name: string; words: string; isNumber: boolean }[]
  atMs: number
}

type Data = Record<string, MetricValue>
const SENSOR_END = '_celsius'
const LABEL_START = 'label.'
const LEAST_PLAIN = 0.01

export function disksOf(newest: readonly NewestMetric[]): Disk[] {
  return family(newest, 'disk.').map(({ metricType, metricData, timestamp }) => ({
    metricType,
    mount: textIn(metricData, 'mount') || metricType.slice('disk.'.length),
    fsType: textIn(metricData, 'fs_type'),
    percent: numberIn(metricData, 'percent'),
    usedBytes: numberIn(metricData, 'used_bytes'),
    totalBytes: numberIn(metricData, 'total_bytes'),
    readPerSec: numberIn(metricData, 'read_bytes_per_sec'),
    writtenPerSec: numberIn(metricData, 'write_bytes_per_sec'),
    atMs: timestamp,
  }))
}

export function interfacesOf(newest: readonly NewestMetric[]): Interface[] {
  return family(newest, 'interface.').map(({ metricType, metricData, timestamp }) => ({
    metricType,
    name: metricType.slice('interface.'.length),
    isUp: metricData.up !== false,
    speedMbps: numberIn(metricData, 'speed_mbps'),
    receivedPerSec: numberIn(metricData, 'recv_bytes_per_sec'),
    sentPerSec: numberIn(metricData, 'sent_bytes_per_sec'),
    errors: (numberIn(metricData, 'errors_in') ?? 0) + (numberIn(metricData, 'errors_out') ?? 0),
    drops: (numberIn(metricData, 'drops_in') ?? 0) + (numberIn(metricData, 'drops_out') ?? 0),
    atMs: timestamp,
  }))
}

/** Sensors, the hottest first. */
export function sensorsOf(newest: readonly NewestMetric[]): Sensor[] {
  const data = dataOf(newest, 'temperature')
  return Object.keys(data)
    .filter((metric) => metric.endsWith(SENSOR_END))
    .map((metric) => ({ metric, name: sensorWords(metric), celsius: numberIn(data, metric) }))
    .filter((sensor): sensor is Sensor => sensor.celsius !== null)
    .toSorted((one, other) => other.celsius - one.celsius || one.name.localeCompare(other.name))
}

/** `coretemp_package_id_0_celsius` → `coretemp package id 0`. */
function sensorWords(metric: string): string {
  return metric.slice(0, -SENSOR_END.length).replaceAll('_', ' ')
}

export function processesOf(newest: readonly NewestMetric[]): Process[] {
  return rowsIn(dataOf(newest, 'process_top'), 'processes').map((row) => ({
    pid: numberIn(row, 'pid') ?? 0,
    name: textIn(row, 'name'),
    user: textIn(row, 'user'),
    cpuPercent: numberIn(row, 'cpu_percent'),
    memoryBytes: numberIn(row, 'memory_bytes'),
  }))
}

/** Sessions, the newest first. */
export function loginsOf(newest: readonly NewestMetric[]): Login[] {
  return rowsIn(dataOf(newest, 'logins'), 'sessions')
    .map((row) => ({ user: textIn(row, 'user'), host: textIn(row, 'host'), sinceMs: numberIn(row, 'since_ms') }))
    .toSorted((one, other) => (other.sinceMs ?? 0) - (one.sinceMs ?? 0))
}

export function pluginsOf(newest: readonly NewestMetric[]): Plugin[] {
  return family(newest, 'custom.').map(({ metricType, metricData, timestamp }) => {
    const names = Object.keys(metricData).toSorted()
    return {
      metricType,
      name: metricType.slice('custom.'.length),
      labels: names.filter((name) => name.startsWith(LABEL_START)).map((name) => [name.slice(LABEL_START.length), figureWords(metricData[name])] as const),
      figures: names
        .filter((name) => !name.startsWith(LABEL_START))
        .map((name) => ({ name, words: figureWords(metricData[name]), isNumber: numberIn(metricData, name) !== null })),
      atMs: timestamp,
    }
  })
}

export function dataOf(newest: readonly NewestMetric[], metricType: string): Data {
  return newest.find((one) => one.metricType === metricType)?.metricData ?? {}
}

export function timeOfType(newest: readonly NewestMetric[], metricType: string): number | null {
  return newest.find((one) => one.metricType === metricType)?.timestamp ?? null
}

function family(newest: readonly NewestMetric[], start: string): NewestMetric[] {
  return newest.filter((one) => one.metricType.startsWith(start)).toSorted((one, other) => one.metricType.localeCompare(other.metricType))
}

/** A figure of which nothing is known but its value: with four digits that count. */
export function figureWords(value: MetricValue | undefined): string {
  if (value === null || value === undefined) return '–'
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (Array.isArray(value)) return `${value.length} rows`
  if (typeof value === 'string' || Number.isInteger(value)) return String(value)
  if (Math.abs(value) >= 1000) return value.toFixed(0)
  return Math.abs(value) < LEAST_PLAIN ? value.toPrecision(2) : String(Number(value.toPrecision(4)))
}

export function numberIn(values: Record<string, unknown>, name: string): number | null {
  const value = values[name]
  return typeof value === 'number' && Number.isFinite(value) ? value : null
}

function textIn(values: Record<string, unknown>, name: string): string {
  const value = values[name]
  return typeof value === 'string' ? value : ''
}

function rowsIn(data: Data, name: string): Record<string, unknown>[] {
  const rows = data[name]
  return Array.isArray(rows) ? rows.filter((row) => typeof row === 'object' && row !== null) : []
}
