import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inGroups, newPassword, passwordProblem } from './passwords.ts'

test('a made password is long enough, and another each time', () => {
  const made = new Set(Array.from({ length: 50 }, () => newPassword()))
  assert.equal(made.size, 50)
  for (const password of made) {
    assert.match(password, /^([a-zA-Z2-9]{5}-){3}[a-zA-Z2-9]{5}$/)
    assert.equal(passwordProblem(password), '')
  }
})

test('bytes that would make some letters likelier are passed over', () => {
  let calls = 0
  const password = newPassword((bytes) => bytes.fill(calls++ === 0 ? 255 : 0))
  assert.equal(password, 'aaaaa-aaaaa-aaaaa-aaaaa')
})

test('a password is as long as its characters, not its bytes', () => {
  assert.equal(passwordProblem(''), '')
  assert.equal(passwordProblem('🐎'.repeat(12)), '')
  assert.equal(passwordProblem('🐎'.repeat(11)), '11 characters: 12 at least')
})

test('groups end without a mark', () => {
  assert.equal(inGroups('abcdefgh', 4), 'abcd efgh')
  assert.equal(inGroups('abcdefghi', 4, '-'), 'abcd-efgh-i')
  assert.equal(inGroups('', 4), '')
})
