import type { OutputStream } from '../generated/protocol'
import { type Passage, StreamText } from './stream_text.ts'

export interface Piece extends Passage {
  stream: OutputStream
}

/** Which of the two streams are shown. */
export type StreamChoice = OutputStream | 'both'

/** Lines of a stream, one under the other, as one element of a page. */
export interface Block {
  key: number
  stream: OutputStream
  text: string
}

export const STDERR_PEN = '38;2;242;169;158'
const BLOCK_MAX_CHARS = 16 * 1024
/** A line without an end is broken there: a page lays out one of a megabyte for seconds. */
const LINE_MAX_CHARS = 4 * BLOCK_MAX_CHARS
export const BLOCKS_KEPT = 10_000

/** The output of a job as it came: each stream in its own order, both in the order of arrival. */
export class OutputLog {
  readonly pieces: Piece[] = []
  readonly #texts: Record<OutputStream, StreamText> = { stdout: new StreamText(), stderr: new StreamText(STDERR_PEN) }

  write(stream: OutputStream, bytes: Uint8Array): void {
    const passage = this.#texts[stream].take(bytes)
    if (passage.ansi !== '' || passage.plain !== '') this.pieces.push({ ...passage, stream })
  }
}

/** Pieces for one terminal. Where the stream changes within a line, the other begins a new one. */
export class Mixer {
  #last: Piece | null = null

  take(pieces: readonly Piece[]): string {
    let text = ''
    for (const piece of pieces) {
      if (this.#last?.stream !== piece.stream) text += `${this.#last === null || this.#last.endsLine ? '' : '\n'}${piece.pen}`
      text += piece.ansi
      this.#last = piece
    }
    return text
  }
}

/** Pieces as blocks of plain text, to be copied and searched. A block that is full stays as it is. */
export class Blocks {
  shown: readonly Block[] = []
  /** Blocks at the beginning that are not shown any more. */
  forgotten = 0
  #next = 0

  take(pieces: readonly Piece[]): void {
    const blocks = [...this.shown]
    for (const { stream, plain } of pieces) {
      const last = blocks.at(-1)
      if (plain === '') continue
      if (last?.stream !== stream) blocks.push(this.#block(stream, plain))
      else if (last.text.length < BLOCK_MAX_CHARS) blocks[blocks.length - 1] = { ...last, text: last.text + plain }
      else {
        const end = last.text.lastIndexOf('\n') + 1 || (last.text.length < LINE_MAX_CHARS ? 0 : last.text.length)
        if (end === 0) blocks[blocks.length - 1] = { ...last, text: last.text + plain }
        else {
          blocks[blocks.length - 1] = { ...last, text: last.text.slice(0, end) }
          blocks.push(this.#block(stream, last.text.slice(end) + plain))
        }
      }
    }
    const excess = Math.max(0, blocks.length - BLOCKS_KEPT)
    this.forgotten += excess
    this.shown = excess > 0 ? blocks.slice(excess) : blocks
  }

  #block(stream: OutputStream, text: string): Block {
    return { key: this.#next++, stream, text }
  }
}

export function chosen(pieces: readonly Piece[], choice: StreamChoice): readonly Piece[] {
  return choice === 'both' ? pieces : pieces.filter((piece) => piece.stream === choice)
}
