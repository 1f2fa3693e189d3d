import assert from 'node:assert/strict'
import { test } from 'node:test'
import { permissionList } from './permissions.ts'

test('permissions are told in one order, without what everybody has', () => {
  assert.deepEqual(permissionList(['self', 'commands:run', 'fleet:read']), ['see machines, values and alerts', 'run commands'])
})

test('a permission that is not known here is still told', () => {
  assert.deepEqual(permissionList(['reports:read', 'fleet:read', 'toString']), ['see machines, values and alerts', 'reports:read', 'toString'])
})
