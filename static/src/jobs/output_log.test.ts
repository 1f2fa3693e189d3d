import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { OutputStream } from '../generated/protocol'
import { bytesOf } from './byte_order.ts'
import { BLOCKS_KEPT, Blocks, Mixer, OutputLog, STDERR_PEN, chosen } from './output_log.ts'

const ERR = `\u001b[0;${STDERR_PEN}m`
const OUT = '\u001b[0m'

function logOf(...chunks: [OutputStream, string][]): OutputLog {
  const log = new OutputLog()
  for (const [stream, text] of chunks) log.write(stream, bytesOf(text, 'utf8'))
  return log
}

test('a terminal gets the streams in the order of arrival, each in its own colours', () => {
  const log = logOf(['stdout', '\u001b[1mbold\n'], ['stderr', 'bad\n'], ['stdout', 'still\n'])
  assert.equal(new Mixer().take(log.pieces), `${OUT}\u001b[0;1mbold\n${ERR}bad\n\u001b[0;1mstill\n`)
})

test('a stream never goes on in the middle of a line of the other', () => {
  const log = logOf(['stdout', 'working '], ['stderr', 'warn'], ['stdout', 'done\n'])
  assert.equal(new Mixer().take(log.pieces), `${OUT}working \n${ERR}warn\n${OUT}done\n`)
})

test('what is drawn in parts is the same as at once', () => {
  const { pieces } = logOf(['stdout', 'a'], ['stdout', 'b'], ['stderr', 'c'])
  const mixer = new Mixer()
  assert.equal(mixer.take(pieces.slice(0, 1)) + mixer.take(pieces.slice(1)), new Mixer().take(pieces))
})

test('one stream alone may be chosen', () => {
  const { pieces } = logOf(['stdout', 'a\n'], ['stderr', 'b\n'], ['stdout', 'c\n'])
  assert.equal(new Mixer().take(chosen(pieces, 'stdout')), `${OUT}a\nc\n`)
  assert.equal(chosen(pieces, 'both').length, 3)
})

test('plain text is in blocks that end with a line, and full ones do not change', () => {
  const blocks = new Blocks()
  blocks.take(logOf(['stdout', 'out 1\n'], ['stdout', 'out 2'], ['stderr', 'err\n']).pieces)
  assert.deepEqual(
    blocks.shown.map(({ stream, text }) => [stream, text]),
    [
      ['stdout', 'out 1\nout 2'],
      ['stderr', 'err\n'],
    ],
  )
  const many = new Blocks()
  many.take(logOf(['stdout', `${'x'.repeat(20_000)}\nrest`]).pieces)
  const [first] = many.shown
  many.take(logOf(['stdout', ' of it\n']).pieces)
  assert.deepEqual(many.shown.map(({ text }) => text.slice(-10)), ['xxxxxxxxx\n', 'rest of it\n'.slice(-10)])
  many.take(logOf(['stdout', 'more\n']).pieces)
  assert.equal(many.shown[0]?.key, first?.key)
})

test('a line without an end is in blocks that a page can lay out, and nothing of it is lost', () => {
  const blocks = new Blocks()
  const part = 'x'.repeat(50_000)
  for (let at = 0; at < 20; at++) blocks.take(logOf(['stdout', part]).pieces)
  blocks.take(logOf(['stdout', 'end\n']).pieces)
  assert.equal(blocks.shown.map(({ text }) => text).join(''), `${part.repeat(20)}end\n`)
  assert.ok(Math.max(...blocks.shown.map(({ text }) => text.length)) <= 3 * part.length)
})

test('of many short blocks the oldest are forgotten and counted', () => {
  const blocks = new Blocks()
  const chunks = Array.from({ length: BLOCKS_KEPT + 10 }, (_, at): [OutputStream, string] => [at % 2 === 0 ? 'stdout' : 'stderr', `${at}\n`])
  blocks.take(logOf(...chunks).pieces)
  assert.equal(blocks.forgotten, 10)
  assert.equal(blocks.shown[0]?.text, '10\n')
})
