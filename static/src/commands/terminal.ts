import type { OutputStream } from '../generated/protocol'
import { visible } from '../text/visible.ts'

/** A piece of a line; `style` holds the names of CSS classes, never more: `bold`, `fg1`, … */
export interface Span {
  text: string
  style: string
}

/** One line of output. A line that grows is replaced by a new one with the same `key`. */
export interface Line {
  key: number
  stream: OutputStream
  spans: readonly Span[]
}

export const LINES_KEPT = 5000

type Mode = 'text' | 'escape' | 'charset' | 'csi' | 'string' | 'string-escape'

interface Pen {
  bold: boolean
  dim: boolean
  underline: boolean
  colour: number | null
}

/** What is known of one stream between two chunks. */
class Cursor {
  readonly decoder = new TextDecoder('utf-8')
  mode: Mode = 'text'
  parameters = ''
  pen: Pen = { bold: false, dim: false, underline: false, colour: null }
  line: number | null = null
  rewind = false
}

/**
 * The screen of a command: bytes of both streams become lines in the order of their arrival.
 *
 * Colours of SGR sequences are kept as class names; every other escape sequence is dropped, other control characters
 * become visible signs. A carriage return starts its line again, as progress bars expect. Keeps the newest 5,000 lines.
 */
export class Screen {
  readonly #cursors: Record<OutputStream, Cursor> = { stdout: new Cursor(), stderr: new Cursor() }
  #lines: Line[] = []
  #first = 0

  /** Lines in order. The array is a new one after each `write`. */
  get lines(): readonly Line[] {
    return this.#lines
  }

  /** How many of the oldest lines are not kept any more. */
  get hiddenLines(): number {
    return this.#first
  }

  write(stream: OutputStream, bytes: Uint8Array): void {
    const cursor = this.#cursors[stream]
    this.#lines = this.#lines.slice()
    let text = ''
    for (const char of cursor.decoder.decode(bytes, { stream: true })) {
      if (cursor.mode === 'text' && char !== '\u001b' && char !== '\n' && char !== '\r' && char !== '\b') {
        text += char
        continue
      }
      if (text !== '') this.#put(stream, cursor, text)
      text = ''
      this.#step(stream, cursor, char)
    }
    if (text !== '') this.#put(stream, cursor, text)
    this.#forgetOldest()
  }

  #step(stream: OutputStream, cursor: Cursor, char: string): void {
    if (cursor.mode === 'text') this.#control(stream, cursor, char)
    else cursor.mode = afterEscape(cursor, char)
  }

  #control(stream: OutputStream, cursor: Cursor, char: string): void {
    if (char === '\u001b') cursor.mode = 'escape'
    else if (char === '\r') cursor.rewind = true
    else if (char === '\b') this.#erase(cursor)
    else {
      if (cursor.line === null) this.#open(stream, cursor)
      cursor.line = null
      cursor.rewind = false
    }
  }

  #open(stream: OutputStream, cursor: Cursor): void {
    cursor.line = this.#first + this.#lines.length
    this.#lines.push({ key: cursor.line, stream, spans: [] })
  }

  #put(stream: OutputStream, cursor: Cursor, text: string): void {
    if (cursor.line === null || cursor.line < this.#first) this.#open(stream, cursor)
    const at = cursor.line! - this.#first
    const before = cursor.rewind ? [] : this.#lines[at]!.spans
    cursor.rewind = false
    this.#lines[at] = { key: cursor.line!, stream, spans: joined(before, { text: visible(text), style: styleOf(cursor.pen) }) }
  }

  #erase(cursor: Cursor): void {
    const line = cursor.line === null ? undefined : this.#lines[cursor.line - this.#first]
    const last = line?.spans.at(-1)
    if (line === undefined || last === undefined) return
    const rest = { ...last, text: last.text.slice(0, -1) }
    const spans = rest.text === '' ? line.spans.slice(0, -1) : [...line.spans.slice(0, -1), rest]
    this.#lines[line.key - this.#first] = { ...line, spans }
  }

  #forgetOldest(): void {
    const excess = this.#lines.length - LINES_KEPT
    if (excess <= 0) return
    this.#lines.splice(0, excess)
    this.#first += excess
  }
}

function joined(spans: readonly Span[], span: Span): readonly Span[] {
  const last = spans.at(-1)
  if (last?.style !== span.style) return [...spans, span]
  return [...spans.slice(0, -1), { text: last.text + span.text, style: last.style }]
}

function afterEscape(cursor: Cursor, char: string): Mode {
  switch (cursor.mode) {
    case 'escape':
      cursor.parameters = ''
      if (char === '[') return 'csi'
      if (char === ']' || char === 'P' || char === '_' || char === '^' || char === 'X') return 'string'
      return char >= ' ' && char <= '/' ? 'charset' : 'text'
    case 'csi':
      if (char < '@' || char > '~') {
        cursor.parameters = (cursor.parameters + char).slice(0, 64)
        return char === '\u001b' ? 'escape' : 'csi'
      }
      if (char === 'm') cursor.pen = penAfter(cursor.pen, cursor.parameters)
      return 'text'
    case 'string':
      return char === '\u0007' ? 'text' : char === '\u001b' ? 'string-escape' : 'string'
    case 'string-escape':
      return char === '\\' ? 'text' : 'string'
    default:
      return 'text'
  }
}

const PLAIN: Pen = { bold: false, dim: false, underline: false, colour: null }

function penAfter(pen: Pen, parameters: string): Pen {
  const codes = parameters.split(/[;:]/).map((code) => (code === '' ? 0 : Number(code)))
  let result = pen
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at]!
    if (code === 38 || code === 48) {
      const indexed = codes[at + 1] === 5
      const index = codes[at + 2] ?? -1
      if (code === 38) result = { ...result, colour: indexed && index >= 0 && index < 16 ? index : null }
      at += indexed ? 2 : 4
    } else result = penWith(result, code)
  }
  return result
}

function penWith(pen: Pen, code: number): Pen {
  if (code === 0) return PLAIN
  if (code === 1) return { ...pen, bold: true }
  if (code === 2) return { ...pen, dim: true }
  if (code === 4) return { ...pen, underline: true }
  if (code === 22) return { ...pen, bold: false, dim: false }
  if (code === 24) return { ...pen, underline: false }
  if (code === 39) return { ...pen, colour: null }
  if (code >= 30 && code <= 37) return { ...pen, colour: code - 30 }
  if (code >= 90 && code <= 97) return { ...pen, colour: code - 90 + 8 }
  return pen
}

function styleOf(pen: Pen): string {
  const names: string[] = []
  if (pen.bold) names.push('bold')
  if (pen.dim) names.push('dim')
  if (pen.underline) names.push('underline')
  if (pen.colour !== null) names.push(`fg${pen.colour}`)
  return names.join(' ')
}
