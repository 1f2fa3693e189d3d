import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ByteOrder, bytesOf } from './byte_order.ts'

const text = (chunks: Uint8Array[]) => chunks.map((chunk) => new TextDecoder().decode(chunk)).join('')
const utf8 = (data: string) => bytesOf(data, 'utf8')

test('chunks in order are given out as they come', () => {
  const order = new ByteOrder()
  assert.equal(text(order.take(0, utf8('abc'))), 'abc')
  assert.equal(text(order.take(3, utf8('def'))), 'def')
  assert.equal(order.next, 6)
})

test('a repeated chunk gives nothing, an overlapping one only its new bytes', () => {
  const order = new ByteOrder()
  order.take(0, utf8('abcdef'))
  assert.equal(text(order.take(0, utf8('abc'))), '')
  assert.equal(text(order.take(4, utf8('efgh'))), 'gh')
})

test('an early chunk waits for the bytes before it', () => {
  const order = new ByteOrder()
  assert.equal(text(order.take(6, utf8('ghi'))), '')
  assert.equal(text(order.take(3, utf8('def'))), '')
  assert.ok(order.hasGap)
  assert.equal(text(order.take(0, utf8('abc'))), 'abcdefghi')
  assert.equal(order.hasGap, false)
})

test('offsets count bytes, not characters', () => {
  const order = new ByteOrder()
  order.take(0, utf8('ü€'))
  assert.equal(order.next, 5)
  assert.equal(text(order.take(5, utf8('x'))), 'x')
})

test('base64 carries bytes that are no text', () => {
  assert.deepEqual([...bytesOf('/wCA', 'base64')], [255, 0, 128])
})

test('a flood of early bytes is bounded, and reading on from next heals it', () => {
  const order = new ByteOrder()
  const mebibyte = new Uint8Array(1024 * 1024)
  for (let at = 0; at < 8; at++) order.take(1 + at * mebibyte.length, mebibyte)
  order.take(0, new Uint8Array(1))
  assert.equal(order.next, 1 + 4 * mebibyte.length)
})
