import assert from 'node:assert/strict'
import { test } from 'node:test'
import { visible, visibleDeep } from './visible.ts'

test('control and direction characters become visible signs', () => {
  assert.equal(visible('a\u001b[31mb\u0000c\u007f'), 'a␛[31mb␀c␡')
  assert.equal(visible('abc\u202edef\u2066'), 'abc⟨U+202E⟩def⟨U+2066⟩')
})

test('plain text, tabs, line ends and other scripts stay', () => {
  assert.equal(visible('Zürich\t日本\nעברית'), 'Zürich\t日本\nעברית')
})

test('every text of a value is cleaned but the arguments of a command', () => {
  const value = { name: 'a\u202e', list: ['\u0007'], n: 1, none: null, commandData: { argv: ['\u0007'] } }
  assert.deepEqual(visibleDeep(value), { name: 'a⟨U+202E⟩', list: ['␇'], n: 1, none: null, commandData: { argv: ['\u0007'] } })
})
