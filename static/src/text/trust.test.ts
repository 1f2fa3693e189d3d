import assert from 'node:assert/strict'
import { test } from 'node:test'
import { toneOfLife } from './trust.ts'

const DAY = 86_400_000

test('a certificate that could have been renewed long ago is told apart', () => {
  const tones = [0, 20, 23, 25, 28.5, 30, 31].map((day) => toneOfLife(0, 30 * DAY, day * DAY))
  assert.deepEqual(tones, ['well', 'well', 'well', 'soon', 'urgent', 'over', 'over'])
})

test('a life of no length is over', () => {
  assert.equal(toneOfLife(5, 5, 5), 'over')
})
