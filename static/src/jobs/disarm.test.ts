import assert from 'node:assert/strict'
import { test } from 'node:test'
import xterm from '@xterm/xterm'
import { disarm } from './disarm.ts'

function written(text: string): Promise<InstanceType<typeof xterm.Terminal>> {
  const terminal = new xterm.Terminal({ allowProposedApi: true, cols: 20, rows: 4, scrollback: 100 })
  disarm(terminal)
  return new Promise((resolve) => terminal.write(text, () => resolve(terminal)))
}

function linesOf(terminal: InstanceType<typeof xterm.Terminal>): string[] {
  const { active } = terminal.buffer
  return Array.from({ length: active.length }, (_, at) => active.getLine(at)?.translateToString(true) ?? '').filter((line) => line !== '')
}

test('a disarmed terminal keeps what it has shown, and answers nothing', async () => {
  const said: string[] = []
  const terminal = new xterm.Terminal({ allowProposedApi: true, cols: 20, rows: 4, scrollback: 100 })
  disarm(terminal)
  terminal.onData((data) => said.push(data))
  terminal.onTitleChange((title) => said.push(title))
  const hostile = '\u001b]0;owned\u0007\u001b[6n\u001b[c\u001b[>c\u001b[21t\u001b[2J\u001b[3J\u001b[?1049h\u001b[1;1H\u001bc\u001b[!p\u001bP$qm\u001b\\'
  await new Promise<void>((resolve) => terminal.write(`first\r\n${hostile}second`, resolve))
  assert.deepEqual(linesOf(terminal), ['first', 'second'])
  assert.equal(terminal.buffer.active.type, 'normal')
  assert.deepEqual(said, [])
})

test('colours and moves within the line still work', async () => {
  const terminal = await written('\u001b[31mred\u001b[0m 10 %\r\u001b[Kdone')
  assert.deepEqual(linesOf(terminal), ['done'])
})
