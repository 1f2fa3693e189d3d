import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bytesOf } from './byte_order.ts'
import { LINES_KEPT, Screen } from './terminal.ts'

function screenOf(...chunks: string[]): Screen {
  const screen = new Screen()
  for (const chunk of chunks) screen.write('stdout', bytesOf(chunk, 'utf8'))
  return screen
}
const texts = (screen: Screen) => screen.lines.map((line) => line.spans.map((span) => span.text).join(''))

test('lines are split at line ends, also inside a chunk and across chunks', () => {
  assert.deepEqual(texts(screenOf('a\nb', 'c\n\nd')), ['a', 'bc', '', 'd'])
})

test('a line end of Windows is one line end', () => {
  assert.deepEqual(texts(screenOf('a\r\nb\r', '\nc')), ['a', 'b', 'c'])
})

test('a character cut between two chunks is whole again', () => {
  const screen = new Screen()
  const bytes = bytesOf('ä€', 'utf8')
  for (const byte of bytes) screen.write('stdout', Uint8Array.of(byte))
  assert.deepEqual(texts(screen), ['ä€'])
})

test('a carriage return starts the line again', () => {
  assert.deepEqual(texts(screenOf('10 %\r20 %', '\r30 %\ndone')), ['30 %', 'done'])
})

test('colours become class names, also when the sequence is cut', () => {
  const screen = screenOf('\u001b[1;3', '1mred\u001b[0m plain \u001b[38;5;12mblue\u001b[39m.\u001b[38;2;1;2;3mtrue')
  assert.deepEqual(screen.lines[0]?.spans, [
    { text: 'red', style: 'bold fg1' },
    { text: ' plain ', style: '' },
    { text: 'blue', style: 'fg12' },
    { text: '.true', style: '' },
  ])
})

test('other escape sequences leave nothing behind', () => {
  assert.deepEqual(texts(screenOf('\u001b[2J\u001b[10;5Ha\u001b]0;title\u0007b\u001b]8;;http://x\u001b\\c\u001b(Bd\u001bcE')), ['abcdE'])
})

test('control and direction characters are made visible', () => {
  assert.deepEqual(texts(screenOf('a\u0007\u202eb')), ['a␇⟨U+202E⟩b'])
})

test('the streams keep lines of their own, in the order of arrival', () => {
  const screen = screenOf('out 1 ')
  screen.write('stderr', bytesOf('err\n', 'utf8'))
  screen.write('stdout', bytesOf('more\nout 2', 'utf8'))
  assert.deepEqual(
    screen.lines.map((line) => [line.stream, line.spans[0]?.text]),
    [
      ['stdout', 'out 1 more'],
      ['stderr', 'err'],
      ['stdout', 'out 2'],
    ],
  )
})

test('a backspace takes a character away', () => {
  assert.deepEqual(texts(screenOf('abc\b\bX')), ['aX'])
})

test('the oldest lines are forgotten and counted, keys stay', () => {
  const screen = screenOf('x\n'.repeat(LINES_KEPT + 10))
  assert.equal(screen.lines.length, LINES_KEPT)
  assert.equal(screen.hiddenLines, 10)
  assert.equal(screen.lines[0]?.key, 10)
})
