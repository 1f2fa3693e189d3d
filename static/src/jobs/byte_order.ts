const WAITING_MAX_BYTES = 4 * 1024 * 1024

interface Chunk {
  offset: number
  bytes: Uint8Array
}

/**
 * Puts the chunks of one output stream in order by their byte offsets. A byte is given out once: repeats are
 * dropped, chunks that come early wait for the bytes before them.
 */
export class ByteOrder {
  #next = 0
  #waiting: Chunk[] = []
  #waitingBytes = 0

  /** The offset of the first byte not given out yet: where to read on after a lost connection. */
  get next(): number {
    return this.#next
  }

  /** Whether bytes are missing before some that are here already. */
  get hasGap(): boolean {
    return this.#waiting.length > 0
  }

  /** Take a chunk; return what follows the bytes given out so far, in order. Beyond 4 MiB of early bytes the newest are dropped. */
  take(offset: number, bytes: Uint8Array): Uint8Array[] {
    if (offset > this.#next) {
      this.#keep({ offset, bytes })
      return []
    }
    const ready: Uint8Array[] = []
    this.#give({ offset, bytes }, ready)
    while (this.#waiting.length > 0 && this.#waiting[0]!.offset <= this.#next) {
      const chunk = this.#waiting.shift()!
      this.#waitingBytes -= chunk.bytes.length
      this.#give(chunk, ready)
    }
    return ready
  }

  #give({ offset, bytes }: Chunk, ready: Uint8Array[]): void {
    const end = offset + bytes.length
    if (end <= this.#next) return
    ready.push(bytes.subarray(this.#next - offset))
    this.#next = end
  }

  #keep(chunk: Chunk): void {
    if (this.#waitingBytes + chunk.bytes.length > WAITING_MAX_BYTES) return
    const at = this.#waiting.findIndex((other) => other.offset > chunk.offset)
    this.#waiting.splice(at < 0 ? this.#waiting.length : at, 0, chunk)
    this.#waitingBytes += chunk.bytes.length
  }
}

const encoder = new TextEncoder()

/** The bytes of a chunk as the hub sends it. Offsets count these bytes, not the characters of the text. */
export function bytesOf(data: string, encoding: 'utf8' | 'base64'): Uint8Array {
  if (encoding === 'utf8') return encoder.encode(data)
  return Uint8Array.from(atob(data), (char) => char.charCodeAt(0))
}
