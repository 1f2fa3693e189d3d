import { visible } from '../text/visible.ts'

/** A part of one output stream as it may be shown. */
export interface Passage {
  /** What gives a terminal the pen with which `ansi` begins. */
  pen: string
  /** For a terminal: text, line ends, and of the sequences only colours and moves within the line. */
  ansi: string
  /** The same without any sequence; each state of a line that was written over is a line of its own. */
  plain: string
  /** Whether what follows begins a line. */
  endsLine: boolean
}

type Mode = 'text' | 'escape' | 'csi' | 'string' | 'string-escape' | 'charset'

const ESCAPE = '\u001b'
const SEQUENCE_MAX_CHARS = 128
/** A title or the like that goes on for longer is taken for text. */
const STRING_MAX_CHARS = 4096
const PEN_MAX_PARTS = 16
/** Also as `08` and, with an argument of its own, as `8:1`. */
const CONCEALED = /^0*8(:|$)/
/** Final characters of sequences that stay within the line, with the parameters they may have. */
const WITHIN_LINE: Record<string, RegExp> = { K: /^[012]?$/, C: /^\d{0,4}$/, D: /^\d{0,4}$/, G: /^\d{0,4}$/ }

/**
 * Takes the bytes of one output stream and gives back what may be shown of them. Output is hostile: nothing gets through
 * that could do more than show text, or take away what was shown above. Characters and sequences may be cut anywhere.
 */
export class StreamText {
  readonly #decoder = new TextDecoder()
  readonly #ground: string
  #pen: readonly string[] = []
  #mode: Mode = 'text'
  #parameters = ''
  #swallowed = 0
  #returnHeld = false
  #endsLine = true

  /** `ground`: the SGR parameters of text to which its program gives no colour. */
  constructor(ground = '') {
    this.#ground = ground
  }

  take(bytes: Uint8Array): Passage {
    const text = this.#decoder.decode(bytes, { stream: true })
    const pen = this.#penNow()
    let ansi = ''
    let plain = ''
    for (let at = 0; at < text.length; ) {
      if (this.#mode !== 'text') {
        ansi += this.#step(text[at]!)
        at++
        continue
      }
      const next = text.indexOf(ESCAPE, at)
      const end = next < 0 ? text.length : next
      ansi += text.slice(at, end).replace(/[^\r\b]+/g, visible)
      plain += this.#plain(text.slice(at, end))
      if (next >= 0) this.#mode = 'escape'
      at = end + 1
    }
    if (plain !== '') this.#endsLine = plain.endsWith('\n')
    return { pen, ansi, plain, endsLine: this.#endsLine }
  }

  #plain(run: string): string {
    const whole = this.#returnHeld ? `\r${run}` : run
    this.#returnHeld = whole.endsWith('\r')
    const lines = (this.#returnHeld ? whole.slice(0, -1) : whole).replace(/\r\n?/g, '\n')
    return visible(lines.replace(/[^\n\b][\b]/g, ''))
  }

  /** Take one character of a sequence; return what a terminal is told once it is whole. */
  #step(char: string): string {
    switch (this.#mode) {
      case 'escape':
        this.#parameters = ''
        this.#swallowed = 0
        this.#mode = afterEscape(char)
        return ''
      case 'csi':
        if (char === ESCAPE) this.#mode = 'escape'
        else if (char >= '@' && char <= '~') {
          this.#mode = 'text'
          return this.#whole(char)
        } else if (this.#parameters.length < SEQUENCE_MAX_CHARS) this.#parameters += char
        return ''
      case 'string':
        if (char === '\u0007' || char === '\u0018' || char === '\u001a' || ++this.#swallowed > STRING_MAX_CHARS) this.#mode = 'text'
        else if (char === ESCAPE) this.#mode = 'string-escape'
        return ''
      case 'string-escape':
        this.#parameters = ''
        this.#mode = char === '\\' ? 'text' : afterEscape(char)
        return ''
      default:
        this.#mode = 'text'
        return ''
    }
  }

  #whole(final: string): string {
    if (final === 'm' && /^[\d;:]*$/.test(this.#parameters)) {
      this.#pen = penAfter(this.#pen, this.#parameters)
      return this.#penNow()
    }
    return WITHIN_LINE[final]?.test(this.#parameters) ? `${ESCAPE}[${this.#parameters}${final}` : ''
  }

  #penNow(): string {
    return `${ESCAPE}[${['0', this.#ground, ...this.#pen].filter((part) => part !== '').join(';')}m`
  }
}

function afterEscape(char: string): Mode {
  if (char === '[') return 'csi'
  if (char === ESCAPE) return 'escape'
  if (char === ']' || char === 'P' || char === '_' || char === '^' || char === 'X') return 'string'
  return char >= ' ' && char <= '/' ? 'charset' : 'text'
}

/** What is set since the last reset, each part once and in order; the oldest of too many are forgotten. */
function penAfter(pen: readonly string[], parameters: string): readonly string[] {
  let result = pen
  for (const part of partsOf(parameters)) {
    if (/^0*$/.test(part)) result = []
    else if (part === '39') result = result.filter((one) => !/^(3[0-8]|9[0-7])/.test(one))
    else if (!CONCEALED.test(part)) result = [...result.filter((one) => one !== part), part].slice(-PEN_MAX_PARTS)
  }
  return result
}

/** The codes of an SGR sequence; one that takes arguments together with them. */
function partsOf(parameters: string): string[] {
  const codes = parameters.split(';')
  const parts: string[] = []
  for (let at = 0; at < codes.length; ) {
    const isColour = /^[345]8$/.test(codes[at]!)
    const length = !isColour ? 1 : codes[at + 1] === '5' ? 3 : codes[at + 1] === '2' ? 5 : 1
    parts.push(codes.slice(at, at + length).join(';'))
    at += length
  }
  return parts
}
