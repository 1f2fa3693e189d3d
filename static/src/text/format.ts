/** Numbers and times as people read them. Nothing here depends on the browser's locale. */

const BINARY = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
const DECIMAL = ['B/s', 'kB/s', 'MB/s', 'GB/s', 'TB/s']
export const NONE = '–'

/** Bytes in binary units with three digits at most: `15.3 GiB`. */
export function bytes(value: number | null): string {
  return value === null ? NONE : scaled(value, 1024, BINARY)
}

/** Bytes per second in decimal units: `1.2 MB/s`. */
export function rate(value: number | null): string {
  return value === null ? NONE : scaled(value, 1000, DECIMAL)
}

function scaled(value: number, base: number, units: readonly string[]): string {
  let rest = Math.max(0, value)
  let unit = 0
  while (rest >= base - 0.5 && unit < units.length - 1) {
    rest /= base
    unit++
  }
  const digits = unit === 0 || rest >= 99.95 ? 0 : rest >= 9.995 ? 1 : 2
  return `${rest.toFixed(digits)} ${units[unit]}`
}

/** `12.3%`; full tens of thousands never occur. */
export function percent(value: number | null): string {
  return value === null ? NONE : `${value >= 99.95 ? Math.round(value) : value.toFixed(1)}%`
}

export function plain(value: number | null, digits = 2): string {
  return value === null ? NONE : value.toFixed(digits)
}

/** A length of time in its two largest units: `3 d 4 h`, `5 min`, `12 s`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds))
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return pair(whole, 60, 'min', 's', whole < 600)
  if (whole < 86400) return pair(whole, 3600, 'h', 'min', true)
  return pair(whole, 86400, 'd', 'h', whole < 30 * 86400)
}

function pair(seconds: number, unit: number, name: string, below: string, withBelow: boolean): string {
  const divisor = below === 's' ? 1 : below === 'min' ? 60 : 3600
  const rest = Math.floor((seconds % unit) / divisor)
  return `${Math.floor(seconds / unit)} ${name}${withBelow && rest > 0 ? ` ${rest} ${below}` : ''}`
}

/** How long ago in one unit: `now`, `12 s ago`, `3 min ago`. */
export function ago(thenMs: number | null, nowMs: number): string {
  if (thenMs === null) return 'never'
  const seconds = Math.floor((nowMs - thenMs) / 1000)
  if (seconds < 3) return 'now'
  return `${brief(seconds)} ago`
}

/** A length of time in one unit: `12 s`, `3 min`, `2 h`, `5 d`. */
export function brief(seconds: number): string {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`
  return `${Math.floor(seconds / 86400)} d`
}

export function timeOf(iso: string | null): number | null {
  return iso === null ? null : Date.parse(iso)
}

/** Local time to the second: `2026-03-01 14:05:09`. */
export function exact(ms: number | null): string {
  if (ms === null) return 'never'
  const at = new Date(ms)
  return `${dayOf(at)} ${clockOf(at)}`
}

/** Local time to the second with its zone: `2026-03-01 14:05:09 UTC+01:00`. */
export function exactWithZone(ms: number | null): string {
  return ms === null ? exact(ms) : `${exact(ms)} ${zoneWords(new Date(ms).getTimezoneOffset())}`
}

/** How a zone is apart from UTC; `behindMinutes` as a Date tells it. */
export function zoneWords(behindMinutes: number): string {
  if (behindMinutes === 0) return 'UTC'
  const minutes = Math.abs(behindMinutes)
  return `UTC${behindMinutes < 0 ? '+' : '-'}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`
}

export function dayOf(at: Date): string {
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`
}

export function clockOf(at: Date): string {
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`
}

function two(value: number): string {
  return String(value).padStart(2, '0')
}

export function count(value: number, one: string, many = `${one}s`): string {
  return `${value} ${value === 1 ? one : many}`
}

/** Local time to the minute as a field of type `datetime-local` holds it; empty for null. */
export function fieldOfTime(ms: number | null): string {
  if (ms === null) return ''
  const at = new Date(ms)
  return `${dayOf(at)}T${clockOf(at).slice(0, 5)}`
}

/** What a field of type `datetime-local` holds, in ms; null where it holds none. */
export function timeOfField(text: string): number | null {
  const ms = Date.parse(text)
  return Number.isNaN(ms) ? null : ms
}
