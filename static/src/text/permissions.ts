import type { Role } from '../generated/protocol'

/** What a person may be allowed to do, in the hub's words and in a reader's. */
export const PERMISSION_WORDS = {
  'fleet:read': 'see machines, values and alerts',
  'fleet:write': 'change machines',
  'fleet:delete': 'remove machines',
  'fleet:revoke': 'quarantine and revoke machines',
  'alerts:resolve': 'resolve alerts',
  'commands:read': 'see commands and their output',
  'commands:run': 'run commands',
  'policies:read': 'see policies and compliance',
  'policies:write': 'change policies',
  'tokens:read': 'see tokens and waiting machines',
  'tokens:write': 'make and revoke tokens',
  'approvals:decide': 'let waiting machines in',
  'certificates:read': 'see certificates',
  'users:read': 'see people and roles',
  'users:write': 'change people',
  'api-keys:read': 'see API keys',
  'api-keys:write': 'make and revoke API keys',
  'audit:read': 'read the audit',
  'organisations:read': 'see organisations',
  'organisations:write': 'change organisations',
  'hub:read': 'see how the hub itself is',
  self: 'look after their own account',
} as const

export type Permission = keyof typeof PERMISSION_WORDS

export const ROLE_WORDS: Record<Role, string> = {
  viewer: 'Viewer',
  operator: 'Operator',
  technician: 'Technician',
  approver: 'Approver',
  'org-admin': 'Administrator',
  'hub-admin': 'Hub administrator',
  auditor: 'Auditor',
}

/** The permission in words; one that this dashboard does not know as the hub calls it. */
export function permissionWords(permission: string): string {
  return Object.hasOwn(PERMISSION_WORDS, permission) ? PERMISSION_WORDS[permission as Permission] : permission
}

/** `permissions` in words, those that weigh less first; what everybody has is not worth a word. */
export function permissionList(permissions: readonly string[]): string[] {
  const order = Object.keys(PERMISSION_WORDS)
  const placeOf = (permission: string) => (order.includes(permission) ? order.indexOf(permission) : order.length)
  return permissions
    .filter((permission) => permission !== 'self')
    .toSorted((one, other) => placeOf(one) - placeOf(other))
    .map(permissionWords)
}
