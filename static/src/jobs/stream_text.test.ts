import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bytesOf } from './byte_order.ts'
import { StreamText } from './stream_text.ts'

const GROUND = '38;5;9'

function shown(chunks: readonly string[], ground = ''): { ansi: string; plain: string } {
  const text = new StreamText(ground)
  const passages = chunks.map((chunk) => text.take(bytesOf(chunk, 'utf8')))
  return { ansi: passages.map((passage) => passage.ansi).join(''), plain: passages.map((passage) => passage.plain).join('') }
}

test('text comes through as it is, and a character that is cut is whole again', () => {
  const text = new StreamText()
  const parts = [...bytesOf('ä€\n', 'utf8')].map((byte) => text.take(Uint8Array.of(byte)))
  assert.equal(parts.map((part) => part.ansi).join(''), 'ä€\n')
  assert.deepEqual([parts.at(0)?.endsLine, parts.at(1)?.endsLine, parts.at(-1)?.endsLine], [true, false, true])
})

test('a line end of Windows is one line end, also when it is cut; a lone return begins a line of the plain text', () => {
  assert.equal(shown(['a\r\nb\r', '\nc']).plain, 'a\nb\nc')
  const progress = shown(['10 %\r20 %', '\r30 %\n'])
  assert.deepEqual(progress, { ansi: '10 %\r20 %\r30 %\n', plain: '10 %\n20 %\n30 %\n' })
})

test('colours get through in one form, also when the sequence is cut', () => {
  const { ansi, plain } = shown(['\u001b[1;3', '1mred\u001b[0m plain \u001b[38;5;0mblack\u001b[39m.\u001b[m'])
  assert.equal(ansi, '\u001b[0;1;31mred\u001b[0m plain \u001b[0;38;5;0mblack\u001b[0m.\u001b[0m')
  assert.equal(plain, 'red plain black.')
})

test('a stream falls back to its own ground and not to that of the terminal', () => {
  assert.equal(shown(['\u001b[32mok\u001b[39mx\u001b[0my'], GROUND).ansi, '\u001b[0;38;5;9;32mok\u001b[0;38;5;9mx\u001b[0;38;5;9my')
})

test('a passage tells the pen with which it begins', () => {
  const text = new StreamText(GROUND)
  assert.equal(text.take(bytesOf('\u001b[4mx', 'utf8')).pen, '\u001b[0;38;5;9m')
  assert.equal(text.take(bytesOf('y', 'utf8')).pen, '\u001b[0;38;5;9;4m')
})

test('what could do more than show leaves nothing behind', () => {
  const hostile = [
    '\u001b]0;title\u0007',
    '\u001b]8;;http://x\u001b\\link\u001b]8;;\u001b\\',
    '\u001b]52;c;aGk=\u0007',
    '\u001bPq#0\u001b\\',
    '\u001b[21t\u001b[6n\u001b[c\u001b[5i',
    '\u001b[2J\u001b[3J\u001b[10;5H\u001b[A\u001b[?1049h\u001b[?2004h\u001b[1;2r',
    '\u001bc\u001b(0\u001b#8\u001b[!p\u001b[8m\u001b[08m\u001b[8:1m',
  ]
  assert.equal(shown(hostile).ansi.replaceAll('\u001b[0m', ''), 'link')
  assert.equal(shown(['a\u001b]0;never ended', ' and more\u0018b\u001b]0;\u001b[Kc']).plain, 'abc')
  assert.equal(shown([`\u001b]0;${'x'.repeat(5000)}`, 'seen']).plain.endsWith('xseen'), true)
})

test('moves within the line are kept, their numbers are bounded', () => {
  assert.equal(shown(['abc\u001b[2D\u001b[K\u001b[99999G\u001b[1GX']).ansi, 'abc\u001b[2D\u001b[K\u001b[1GX')
})

test('control and direction characters are made visible, 8-bit controls too', () => {
  assert.equal(shown(['a\u0007\u202eb\u009b2Jc']).ansi, 'a␇⟨U+202E⟩b⟨U+009B⟩2Jc')
})

test('what is struck over is read once', () => {
  assert.deepEqual(shown(['N\bNA\bA']), { ansi: 'N\bNA\bA', plain: 'NA' })
})
