import assert from 'node:assert/strict'
import { test } from 'node:test'
import { standingOf, staysOnThisMachine } from './joining.ts'

test('the addresses of the machine itself are known', () => {
  for (const host of ['localhost', 'LOCALHOST', '127.0.0.1', '127.8.9.10', '[::1]']) {
    assert.ok(staysOnThisMachine(`jtnt://${host}:3001/#jtnte_a.b`), host)
  }
})

test('an address for others is none of them', () => {
  for (const host of ['hub.example', 'localhost.example', '127.example.net', '192.168.1.4', '[fe80::1]']) {
    assert.ok(!staysOnThisMachine(`jtnt://${host}:3001/#jtnte_localhost.b`), host)
  }
})

test('a token is good until it is revoked, used up or past its time', () => {
  const token = { uses: 2, used: 1, expiresAt: '2026-01-01T00:00:10Z', revokedAt: null }
  const now = Date.parse('2026-01-01T00:00:00Z')
  assert.equal(standingOf(token, now), 'good')
  assert.equal(standingOf(token, now + 10_000), 'expired')
  assert.equal(standingOf({ ...token, used: 2 }, now + 10_000), 'used up')
  assert.equal(standingOf({ ...token, used: 2, revokedAt: token.expiresAt }, now), 'revoked')
  assert.equal(standingOf({ used: 500, expiresAt: token.expiresAt, revokedAt: null }, now), 'good')
})
