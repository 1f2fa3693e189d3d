import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AuthorityView } from '../generated/protocol'
import { inOrder, toneOfLife } from './trust.ts'

const DAY = 86_400_000

test('a certificate that could have been renewed long ago is told apart', () => {
  const tones = [0, 20, 23, 25, 28.5, 30, 31].map((day) => toneOfLife(0, 30 * DAY, day * DAY))
  assert.deepEqual(tones, ['well', 'well', 'well', 'soon', 'urgent', 'over', 'over'])
})

test('a life of no length is over', () => {
  assert.equal(toneOfLife(5, 5, 5), 'over')
})

test('authorities are listed from the root down', () => {
  const authority = (use: string, state: string) => ({ use, state }) as AuthorityView
  const mixed = [authority('jobs', 'active'), authority('agents', 'retiring'), authority('agents', 'next'), authority('root', 'active')]
  assert.deepEqual(inOrder(mixed).map(({ use, state }) => `${use} ${state}`), ['root active', 'agents next', 'agents retiring', 'jobs active'])
})
