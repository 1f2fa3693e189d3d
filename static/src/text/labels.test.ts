import assert from 'node:assert/strict'
import { test } from 'node:test'
import { siteProblem, tagsOf, tagsProblem } from './labels.ts'

test('tags are parted by white space and commas', () => {
  assert.deepEqual(tagsOf(' web, prod\tdb,,'), ['web', 'prod', 'db'])
})

test('a site is counted without the blanks around it, in code points', () => {
  assert.equal(siteProblem(` ${'🏭'.repeat(128)} `), '')
  assert.equal(siteProblem('a'.repeat(129)), '129 characters: 128 at most')
})

test('the longest tag and the number of tags are counted', () => {
  assert.equal(tagsProblem(`a ${'b'.repeat(64)}`), '')
  assert.equal(tagsProblem(`a ${'b'.repeat(65)}`), 'a tag has 65 characters: 64 at most')
  assert.equal(tagsProblem('t '.repeat(65)), '65 tags: 64 at most')
  assert.equal(tagsProblem(''), '')
})
