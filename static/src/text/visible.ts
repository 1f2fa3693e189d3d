/**
 * Text from machines is hostile. Characters that draw nothing, move the cursor or turn the reading direction are
 * replaced by signs that can be seen. The result is still only fit for text nodes.
 */
const HOSTILE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g

export function visible(text: string): string {
  return text.replace(HOSTILE, (char) => signOf(char.charCodeAt(0)))
}

function signOf(code: number): string {
  if (code < 0x20) return String.fromCharCode(0x2400 + code)
  if (code === 0x7f) return '\u2421'
  return `\u27e8U+${code.toString(16).toUpperCase().padStart(4, '0')}\u27e9`
}

/** Whatever `value` is, with every text in it made visible; `commandData` stays as it is: what runs must be what is shown. */
export function visibleDeep<T>(value: T): T {
  return walk(value) as T
}

function walk(value: unknown): unknown {
  if (typeof value === 'string') return visible(value)
  if (Array.isArray(value)) return value.map(walk)
  if (value === null || typeof value !== 'object') return value
  const result: Record<string, unknown> = {}
  for (const [key, item] of Object.entries(value)) result[key] = key === 'commandData' ? item : walk(item)
  return result
}
