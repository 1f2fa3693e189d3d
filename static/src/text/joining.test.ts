import assert from 'node:assert/strict'
import { test } from 'node:test'
import { staysOnThisMachine } from './joining.ts'

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
