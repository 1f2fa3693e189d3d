import { type Socket, io } from 'socket.io-client'
import type {
  AgentsMetrics,
  AgentsStatus,
  ClientToServerEvents,
  Operations,
  Refusal,
  ServerToClientEvents,
} from '../generated/protocol'
import { visibleDeep } from '../text/visible'
import { Refused, Unanswered } from './refusal'
import { type Session, session } from './session.svelte'

const ANSWER_TIMEOUT_MS = 10_000
const RENEW_PAUSE_MS = 1_000

type EventName = keyof ServerToClientEvents
type Payload<Name extends EventName> = Parameters<ServerToClientEvents[Name]>[0]
type Listener<Name extends EventName> = (event: Payload<Name>) => void
type Asking = { emitWithAck(name: string, request: unknown): Promise<unknown> }

/** The one socket to the hub: questions with answers, events, and whether what is shown is live. */
export class HubSocket {
  live = $state(false)
  /** When the hub was last heard of, in this computer's time; 0 before the first word. */
  heardAtMs = $state(0)

  readonly #session: Session
  readonly #socket: Socket<ServerToClientEvents, ClientToServerEvents>
  readonly #listeners = new Map<EventName, Set<Listener<EventName>>>()
  readonly #onLive = new Set<() => void>()
  readonly #onClosed: (() => void)[] = []
  #return: ReturnType<typeof setTimeout> | undefined
  #confirmed = 0
  /** How many versions of the feed one word confirms, as the hub said. */
  #confirmEvery = 1
  /** Of the list of machines, as it was heard last; null until this connection was told. */
  #listVersion: number | null = null

  constructor(session: Session) {
    this.#session = session
    this.#socket = io({
      path: '/ws/agents',
      transports: ['websocket'],
      autoConnect: false,
      reconnectionDelay: 500,
      reconnectionDelayMax: 5_000,
      auth: (give) => void session.token().then((token) => give({ token })),
    })
    this.#socket.on('connect', () => this.#becameLive())
    this.#socket.on('disconnect', (reason) => this.#wasLost(reason))
    this.#socket.on('connect_error', (error) => this.#wasRefused(error))
    this.#socket.io.on('ping', () => this.#heard())
    this.#socket.onAny((name: EventName, event: Payload<EventName>) => this.#deliver(name, event))
    session.onRenewed = (token, moreAllowed) => this.#renewed(token, moreAllowed)
  }

  open(): void {
    this.#socket.connect()
  }

  /** Nobody is signed in: what was known is forgotten. */
  close(): void {
    this.#socket.disconnect()
    this.heardAtMs = 0
    for (const forget of this.#onClosed) forget()
  }

  /** Call `forget` whenever nobody is signed in any more. */
  whenClosed(forget: () => void): void {
    this.#onClosed.push(forget)
  }

  /** Ask the hub. Raises Refused when it says no, Unanswered when it does not say anything within 10 s. */
  async ask<Name extends keyof Operations>(
    name: Name,
    request: Operations[Name]['request'],
  ): Promise<Operations[Name]['reply']> {
    const answer = await this.#answer(name, request)
    this.#heard()
    if (answer.ok) return name === 'commands:output' ? answer : visibleDeep(answer)
    if (answer.error.code === 'unauthenticated') this.#reconnect()
    throw new Refused(visibleDeep(answer.error))
  }

  /** Get live samples of these machines, and of no others, as `agents:metrics`; all where nothing is named. */
  async watch(agentIds: readonly string[], metrics: readonly string[] = [], metricTypes: readonly string[] = []): Promise<void> {
    const view = { agentIds: [...agentIds], metrics: [...metrics], metricTypes: [...metricTypes] }
    this.#confirmEvery = (await this.ask('feed:subscribe', view)).confirmEvery
  }

  /** No machine is in view any more. */
  unwatch(): void {
    if (this.#socket.connected) this.watch([]).catch(() => undefined)
  }

  /** Hear an event until the returned function is called. */
  on<Name extends EventName>(name: Name, listener: Listener<Name>): () => void {
    const listeners = this.#listeners.get(name) ?? new Set()
    this.#listeners.set(name, listeners)
    listeners.add(listener as Listener<EventName>)
    return () => listeners.delete(listener as Listener<EventName>)
  }

  /** Call `load` now if the socket is up, and whenever events may have been missed: after a reconnect, or a lag. */
  whenLive(load: () => void): () => void {
    this.#onLive.add(load)
    if (this.#socket.connected) load()
    return () => this.#onLive.delete(load)
  }

  async #answer<Name extends keyof Operations>(
    name: Name,
    request: Operations[Name]['request'],
  ): Promise<Operations[Name]['reply'] | Refusal> {
    const asking: Asking = this.#socket.timeout(ANSWER_TIMEOUT_MS)
    try {
      return (await asking.emitWithAck(name, request)) as Operations[Name]['reply'] | Refusal
    } catch {
      throw new Unanswered()
    }
  }

  #deliver<Name extends EventName>(name: Name, event: Payload<Name>): void {
    this.#heard()
    if (name === 'agents:metrics') this.#confirm(event as Payload<'agents:metrics'>)
    const seen = name === 'agent:command:output' ? event : visibleDeep(event)
    for (const listener of this.#listeners.get(name) ?? []) listener(seen)
    if (name === 'agents:status') this.#follow(event as Payload<'agents:status'>)
  }

  #confirm({ version, snapshot }: AgentsMetrics): void {
    if (!snapshot && version < this.#confirmed + this.#confirmEvery) return
    this.#confirmed = version
    const unanswered: Socket = this.#socket as unknown as Socket
    unanswered.emit('feed:ack', { version })
  }

  /** The hub tells the list anew to who was too far behind for its changes, and a number that is missing says the same. */
  #follow({ version, delta }: AgentsStatus): void {
    const known = this.#listVersion
    this.#listVersion = version
    if (known !== null && (!delta || version !== known + 1)) this.#load()
  }

  #load(): void {
    for (const load of this.#onLive) load()
  }

  #heard(): void {
    this.heardAtMs = Date.now()
  }

  #becameLive(): void {
    this.#heard()
    this.live = true
    this.#load()
  }

  #wasLost(reason: string): void {
    this.live = false
    this.#listVersion = null
    if (reason === 'io server disconnect') this.#reconnect()
  }

  #wasRefused(error: Error): void {
    if (error.message === 'unauthenticated' || !this.#socket.active) this.#reconnect()
  }

  /** Come back with a new token. Without one the session ends, and the page closes the socket. */
  #reconnect(): void {
    this.#session.distrustToken()
    this.#return ??= setTimeout(() => {
      this.#return = undefined
      if (this.#session.state === 'in') this.#socket.disconnect().connect()
    }, RENEW_PAUSE_MS)
  }

  /** A socket keeps the rights it came with, so that one worth more needs another. */
  #renewed(token: string, moreAllowed: boolean): void {
    if (moreAllowed) this.#socket.disconnect().connect()
    else if (this.#socket.connected) this.ask('auth:refresh', { token }).catch(() => this.#reconnect())
  }
}

export const hub = new HubSocket(session)
