import type { AgentTrust, AuthorityState, AuthorityUse, AuthorityView, CertificateState } from '../generated/protocol'

export const TRUST_WORDS: Record<AgentTrust, string> = {
  trusted: 'Trusted',
  quarantined: 'Quarantined',
  revoked: 'Revoked',
}

export const CERTIFICATE_WORDS: Record<CertificateState, string> = {
  current: 'Current',
  superseded: 'Replaced',
  revoked: 'Revoked',
  expired: 'Expired',
}

export const AUTHORITY_USES: Record<AuthorityUse, string> = {
  root: 'Root',
  agents: 'Issues machines’ certificates',
  servers: 'Issues the hub’s own certificate',
  jobs: 'Signs commands',
  audit: 'Signs the audit',
  access: 'Signs access tokens',
}

export const AUTHORITY_STATES: Record<AuthorityState, string> = {
  next: 'Next: known to machines, used soon',
  active: 'In use',
  retiring: 'Retiring: what it signed still counts',
}

export type Tone = 'well' | 'soon' | 'urgent' | 'over'

const SOON = 0.2
const URGENT = 0.07

/** How the rest of a life stands. A machine renews when a third is left; at a fifth something keeps it from doing so. */
export function toneOfLife(fromMs: number, untilMs: number, nowMs: number): Tone {
  const left = (untilMs - nowMs) / Math.max(1, untilMs - fromMs)
  if (left <= 0) return 'over'
  return left < URGENT ? 'urgent' : left < SOON ? 'soon' : 'well'
}

const USES = Object.keys(AUTHORITY_USES)
const STATES = Object.keys(AUTHORITY_STATES)

/** From the root down; of one use, what comes before what is and what was. */
export function inOrder(authorities: readonly AuthorityView[]): AuthorityView[] {
  return authorities.toSorted((one, other) => USES.indexOf(one.use) - USES.indexOf(other.use) || STATES.indexOf(one.state) - STATES.indexOf(other.state))
}
