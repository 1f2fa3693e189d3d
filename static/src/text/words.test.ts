import assert from 'node:assert/strict'
import { test } from 'node:test'
import { actorWords, kindWords, systemWords, sentence, withWait } from './words.ts'

test('people are named without their kind', () => {
  assert.deepEqual(['user:admin', 'key:deploy', 'hub'].map(actorWords), ['admin', 'key:deploy', 'hub'])
})

test('kinds of alerts become headings', () => {
  assert.deepEqual(['cpu', 'disk_percent', 'firewall'].map(kindWords), ['CPU', 'Disk percent', 'Firewall'])
})

test('a system is named once', () => {
  assert.equal(systemWords('linux', 'Debian GNU/Linux 12'), 'Debian GNU/Linux 12')
  assert.equal(systemWords('linux', '6.1.0-rc'), 'Linux 6.1.0-rc')
  assert.equal(systemWords('windows', 'Server 2022'), 'Windows Server 2022')
  assert.equal(systemWords('darwin', '15.1'), 'macOS 15.1')
  assert.equal(systemWords('windows', 'Windows 11'), 'Windows 11')
  assert.equal(systemWords('freebsd', ''), 'freebsd')
})

test('a sentence has a capital and a stop', () => {
  assert.deepEqual(['stolen laptop', 'Why?', ''].map(sentence), ['Stolen laptop.', 'Why?', ''])
})

test('how long to wait is said once', () => {
  assert.equal(withWait('Too many attempts: try again in 5 s.', 5), 'Too many attempts: try again in 5 s.')
  assert.equal(withWait('The hub is busy.', 2), 'The hub is busy. Try again in 2 s.')
  assert.equal(withWait('This is taken.', null), 'This is taken.')
})
