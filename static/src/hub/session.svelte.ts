import type { ErrorReply, SignInReply, SignInRequest } from '../generated/protocol'
import { clock } from '../state/clock.svelte'
import { Refused, Unanswered } from './refusal'

const REMEMBERED = 'jtnt.signed-in-as'
const ANSWER_TIMEOUT_MS = 15_000
const RETRY_MS = 5_000

/** `unknown`: not asked yet; `away`: the hub did not answer. */
export type SessionState = 'unknown' | 'away' | 'in' | 'out'

/**
 * Who is signed in. The access token lives in memory only; a cookie that scripts cannot read brings a new one.
 */
export class Session {
  state = $state<SessionState>('unknown')
  username = $state('')
  /** The hub lets the person set up a second factor, and nothing else before that. */
  secondFactorNeeded = $state(false)
  /** Why nobody is signed in any more, where it was not the person's wish here and now. */
  ending = $state('')
  /** Called with each token that replaces another; `moreAllowed`: it is worth more than the one before. */
  onRenewed: (token: string, moreAllowed: boolean) => void = () => {}

  #token = ''
  #renewAtMs = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #renewal: Promise<void> | null = null

  /** Find out whether this browser is signed in already. A browser that never was does not ask. */
  async resume(): Promise<void> {
    this.username = remembered()
    if (this.username === '') this.state = 'out'
    else await this.renew()
  }

  /** Raises Refused, with `otp_required` where the password is right and a code is missing, or Unanswered. */
  async signIn(request: SignInRequest): Promise<void> {
    const reply = await post('sign-in', request)
    remember(request.username)
    this.username = request.username
    this.ending = ''
    this.#accept(reply)
  }

  /** A token that is good for a while yet, renewed first where it is not; empty when there is none. */
  async token(): Promise<string> {
    if (Date.now() >= this.#renewAtMs) await this.renew()
    return this.#token
  }

  /** Ask for a new token by the cookie; one at a time in all tabs, because each cookie is good for one use. */
  renew(): Promise<void> {
    this.#renewal ??= this.#ask().finally(() => (this.#renewal = null))
    return this.#renewal
  }

  /** Ends the session here even where the hub does not answer; then raises Unanswered. */
  async signOut(): Promise<void> {
    try {
      await post('sign-out')
    } finally {
      this.#forget('')
    }
  }

  /** Every sign-in of the person was ended by an operation, this one too; `why` is shown where they sign in again. */
  endedEverywhere(why: string): void {
    this.#forget(why)
  }

  /** The hub does not take the token any more: the next `token()` brings another. */
  distrustToken(): void {
    this.#renewAtMs = 0
  }

  async #ask(): Promise<void> {
    const wasLimited = this.secondFactorNeeded
    try {
      this.#accept(await alone(() => post('refresh')))
      this.onRenewed(this.#token, wasLimited && !this.secondFactorNeeded)
    } catch (error) {
      if (error instanceof Refused && error.code === 'unauthenticated') this.#forget(this.state === 'in' ? 'Your sign-in has ended. Sign in again.' : '')
      else this.#tryLater()
    }
  }

  #accept(reply: SignInReply): void {
    const lifetimeMs = reply.expiresInSec * 1000
    const untilRenewalMs = Math.max(lifetimeMs * 0.5, lifetimeMs - 60_000)
    this.#token = reply.accessToken
    this.#renewAtMs = Date.now() + untilRenewalMs
    this.secondFactorNeeded = reply.secondFactorNeeded
    this.state = 'in'
    this.#wakeIn(untilRenewalMs)
  }

  #tryLater(): void {
    if (this.state !== 'in') this.state = 'away'
    this.#wakeIn(RETRY_MS)
  }

  #wakeIn(delayMs: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.renew(), delayMs)
  }

  #forget(ending: string): void {
    clearTimeout(this.#timer)
    this.ending = ending
    this.secondFactorNeeded = false
    this.#token = ''
    this.#renewAtMs = 0
    remember('')
    this.username = ''
    this.state = 'out'
  }
}

async function post(action: 'sign-in' | 'refresh' | 'sign-out', body?: object): Promise<SignInReply> {
  let response: Response
  let reply: unknown
  try {
    response = await fetch(`/api/v1/auth/${action}`, {
      method: 'POST',
      headers: { 'X-Requested-With': 'jtnt', ...(body && { 'Content-Type': 'application/json' }) },
      body: body ? JSON.stringify(body) : null,
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    })
    reply = response.status === 204 ? {} : await response.json()
  } catch {
    throw new Unanswered()
  }
  clock.learn(response.headers.get('Date'))
  if (response.ok) return reply as SignInReply
  throw new Refused((reply as ErrorReply).error)
}

function alone<T>(work: () => Promise<T>): Promise<T> {
  return 'locks' in navigator ? navigator.locks.request('jtnt-refresh', work) : work()
}

/** Not a secret: it only tells whether asking for a token can succeed, and whose name to show. */
function remembered(): string {
  try {
    return localStorage.getItem(REMEMBERED) ?? ''
  } catch {
    return ''
  }
}

function remember(username: string): void {
  try {
    if (username === '') localStorage.removeItem(REMEMBERED)
    else localStorage.setItem(REMEMBERED, username)
  } catch {
    return
  }
}

export const session = new Session()
