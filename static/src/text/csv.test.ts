import assert from 'node:assert/strict'
import { test } from 'node:test'
import { csvOf } from './csv.ts'

test('cells with commas, quotes and line breaks are quoted', () => {
  assert.equal(csvOf([['a', 'b'], ['x,y', 'say "hi"'], ['two\nlines', 3]]), 'a,b\r\n"x,y","say ""hi"""\r\n"two\nlines",3\r\n')
})

test('no cell is a formula', () => {
  for (const start of ['=', '+', '-', '@', '\t', '\r']) {
    assert.ok(csvOf([[`${start}cmd`]]).replace(/^"/, '').startsWith(`'${start}`), JSON.stringify(start))
  }
})

test('a negative number stays a number', () => {
  assert.equal(csvOf([[-5]]), '-5\r\n')
})
