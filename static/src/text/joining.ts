import type { TokenView } from '../generated/protocol'

/** Whether the hub's address in a join string leads back to the machine it is used on: `jtnt://localhost:3001/#…`. */
export function staysOnThisMachine(joinString: string): boolean {
  const host = hostOf(joinString).toLowerCase()
  return host === 'localhost' || host.endsWith('.localhost') || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host)
}

function hostOf(joinString: string): string {
  return /^[a-z]+:\/\/(\[[^\]]*\]|[^/:#?]*)/i.exec(joinString)?.[1] ?? ''
}

export type Standing = 'good' | 'used up' | 'expired' | 'revoked'

type Credential = Pick<TokenView, 'expiresAt' | 'revokedAt'> & { uses?: number; used?: number }

/** Whether a machine or a script can still use it. */
export function standingOf({ expiresAt, revokedAt, uses = Infinity, used = 0 }: Credential, nowMs: number): Standing {
  if (revokedAt !== null) return 'revoked'
  if (used >= uses) return 'used up'
  return Date.parse(expiresAt) <= nowMs ? 'expired' : 'good'
}

/** Lifetimes to choose from, in seconds. */
export const TOKEN_LIFETIMES: readonly [number, string][] = [
  [1800, '30 minutes'],
  [3600 * 4, '4 hours'],
  [86_400, '1 day'],
  [7 * 86_400, '7 days'],
  [30 * 86_400, '30 days'],
]
export const KEY_LIFETIMES: readonly [number, string][] = [
  [7 * 86_400, '7 days'],
  [30 * 86_400, '30 days'],
  [90 * 86_400, '90 days'],
  [365 * 86_400, '1 year'],
]
