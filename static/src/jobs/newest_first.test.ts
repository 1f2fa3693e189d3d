import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pageOfLists } from './newest_first.ts'

const at = (second: number) => ({ createdAt: new Date(second * 1000).toISOString() })

test('pages of several lists together hold each of them once, newest first', () => {
  const lists = [[at(9), at(5), at(1)], [at(8), at(2)], [at(7)]]
  const pages = [0, 2, 4, 6].map((offset) => pageOfLists(lists, 2, offset))
  assert.deepEqual(
    pages.map((page) => page.map(({ createdAt }) => Date.parse(createdAt) / 1000)),
    [[9, 8], [7, 5], [2, 1], []],
  )
})
