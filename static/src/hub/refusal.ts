import type { ErrorBody, ErrorCode } from '../generated/protocol'
import { sentence, withWait } from '../text/words'

/** The hub said no; the message is for people. */
export class Refused extends Error {
  override readonly name = 'Refused'
  readonly code: ErrorCode
  readonly retryAfterSec: number | null
  /** Of the field at fault, from `$`, the request. */
  readonly path: string | null

  constructor(error: ErrorBody) {
    super(error.message)
    this.code = error.code
    this.retryAfterSec = error.retryAfterSec ?? null
    this.path = error.path ?? null
  }
}

/** No answer came: nobody knows whether the hub did it. */
export class Unanswered extends Error {
  override readonly name = 'Unanswered'
}

/** `error` as a sentence to show where it happened. */
export function wordsOf(error: unknown): string {
  if (error instanceof Unanswered) return 'The hub did not answer. Check the connection and try again.'
  if (!(error instanceof Refused)) return 'Something went wrong in this page. Reload it and try again.'
  const message = error.message === '' ? `The hub refused (${error.code}).` : sentence(error.message)
  return withWait(message, error.retryAfterSec)
}
