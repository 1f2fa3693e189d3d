import type { AgentCommandOutput, CommandView, OutputStream } from '../generated/protocol'
import { wordsOf } from '../hub/refusal'
import { type HubSocket } from '../hub/socket.svelte'
import { isFinished } from '../text/words'
import { ByteOrder, bytesOf } from './byte_order'
import { OutputLog, type Piece } from './output_log'

const STREAMS: readonly OutputStream[] = ['stdout', 'stderr']
const REREAD_PAUSE_MS = 500

/**
 * One job as it is watched: its state, and its output in order. Whatever was missed, before it was opened or while the
 * connection was lost, is read again from the byte that comes next.
 */
export class JobRun {
  readonly id: string
  command = $state.raw<CommandView | null>(null)
  /** How many pieces of output there are; they are drawn once for each time this changes. */
  drawn = $state(0)
  /** Bytes of each stream that are here. */
  received = $state.raw<Readonly<Record<OutputStream, number>>>({ stdout: 0, stderr: 0 })
  /** All output that the hub had when it was asked is here. */
  caughtUp = $state(false)
  problem = $state('')

  readonly #hub: HubSocket
  readonly #log = new OutputLog()
  readonly #orders: Record<OutputStream, ByteOrder> = { stdout: new ByteOrder(), stderr: new ByteOrder() }
  #reading = false
  /** Whether something was missed since the last reading began. */
  #behind = false
  #frame = 0
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(hub: HubSocket, id: string, command: CommandView | null = null) {
    this.#hub = hub
    this.id = id
    this.command = command
  }

  get pieces(): readonly Piece[] {
    return this.#log.pieces
  }

  /** Follow the job until the returned function is called. */
  open(): () => void {
    const offs = [
      this.#hub.on('agent:command:output', (event) => event.commandId === this.id && this.#output(event)),
      this.#hub.on('agent:command:status', (event) => {
        if (event.commandId !== this.id || this.command === null || isFinished(this.command.status)) return
        this.command = { ...this.command, status: event.status, cancelRequested: event.cancelRequested }
        if (!isFinished(event.status)) void this.#learn()
      }),
      this.#hub.on('agent:command:result', (event) => {
        if (event.commandId !== this.id || this.command === null) return
        const { status, exitCode, reason, result, finishedAt } = event
        this.command = { ...this.command, status, exitCode, reason, result, finishedAt }
        void this.#catchUp()
      }),
      this.#hub.whenLive(() => void this.#catchUp()),
    ]
    return () => {
      for (const off of offs) off()
      cancelAnimationFrame(this.#frame)
      this.#frame = 0
      clearTimeout(this.#timer)
    }
  }

  /** Ask for its end. Raises Refused or Unanswered. */
  async cancel(): Promise<void> {
    this.#take((await this.#hub.ask('commands:cancel', { commandId: this.id })).command)
  }

  /** All output the hub holds of one stream, from the first byte on. Raises Refused or Unanswered. */
  async stored(stream: OutputStream): Promise<Uint8Array<ArrayBuffer>[]> {
    const parts: Uint8Array<ArrayBuffer>[] = []
    for (let offset = 0; ; ) {
      const reply = await this.#hub.ask('commands:output', { commandId: this.id, stream, offset })
      parts.push(new Uint8Array(bytesOf(reply.data, reply.encoding)))
      if (reply.complete || reply.nextOffset <= offset) return parts
      offset = reply.nextOffset
    }
  }

  #take(command: CommandView): void {
    const known = this.command
    if (known !== null && isFinished(known.status) && !isFinished(command.status)) return
    this.command = command
  }

  async #catchUp(): Promise<void> {
    this.#behind = true
    if (this.#reading) return
    this.#reading = true
    try {
      while (this.#behind) {
        this.#behind = false
        await this.#read()
      }
    } finally {
      this.#reading = false
    }
  }

  async #read(): Promise<void> {
    if (!(await this.#learn())) return
    try {
      for (const stream of STREAMS) await this.#readOn(stream)
      this.#draw()
      this.caughtUp = true
    } catch (error) {
      this.problem = wordsOf(error)
    }
  }

  /** Ask where the job stands; return whether the hub answered. */
  async #learn(): Promise<boolean> {
    try {
      this.#take((await this.#hub.ask('commands:get', { commandId: this.id })).command)
      this.problem = ''
      return true
    } catch (error) {
      this.problem = wordsOf(error)
      return false
    }
  }

  async #readOn(stream: OutputStream): Promise<void> {
    const order = this.#orders[stream]
    for (;;) {
      const offset = order.next
      const reply = await this.#hub.ask('commands:output', { commandId: this.id, stream, offset })
      this.#write(stream, reply.offset, bytesOf(reply.data, reply.encoding))
      if (reply.complete || order.next <= offset) return
    }
  }

  #output(event: AgentCommandOutput): void {
    this.#write(event.stream, event.offset, bytesOf(event.data, event.encoding))
    if (!this.#orders[event.stream].hasGap) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#catchUp(), REREAD_PAUSE_MS)
  }

  #write(stream: OutputStream, offset: number, bytes: Uint8Array): void {
    for (const part of this.#orders[stream].take(offset, bytes)) this.#log.write(stream, part)
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.#draw())
  }

  #draw(): void {
    cancelAnimationFrame(this.#frame)
    this.#frame = 0
    this.drawn = this.#log.pieces.length
    this.received = { stdout: this.#orders.stdout.next, stderr: this.#orders.stderr.next }
  }
}
