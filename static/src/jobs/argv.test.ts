import assert from 'node:assert/strict'
import { test } from 'node:test'
import { argvLine, parseArgv, quotingOf, throughShell } from './argv.ts'

const argv = (line: string, quoting: 'posix' | 'windows' = 'posix') => {
  const parsed = parseArgv(line, quoting)
  assert.ok('argv' in parsed, JSON.stringify(parsed))
  return parsed.argv
}

test('words are split at white space', () => {
  assert.deepEqual(argv('  uname   -a\t-r '), ['uname', '-a', '-r'])
})

test('quotes keep white space and may join a word', () => {
  assert.deepEqual(argv(`printf '%s\\n' "a  b"c ''`), ['printf', '%s\\n', 'a  bc', ''])
})

test('a backslash takes the next character as it is', () => {
  assert.deepEqual(argv(String.raw`ls my\ file \"x\" \\`), ['ls', 'my file', '"x"', '\\'])
})

test('inside double quotes a backslash only escapes a quote and itself', () => {
  assert.deepEqual(argv(String.raw`echo "a\"b\\c\n"`), ['echo', String.raw`a"b\c\n`])
})

test('on Windows a backslash is part of a path', () => {
  assert.deepEqual(argv(String.raw`C:\Windows\ipconfig.exe /all "C:\a b\x" it's`, 'windows'), [
    String.raw`C:\Windows\ipconfig.exe`,
    '/all',
    String.raw`C:\a b\x`,
    "it's",
  ])
  assert.equal(quotingOf('Windows'), 'windows')
  assert.equal(quotingOf('linux'), 'posix')
})

test('a JSON list is taken as it is', () => {
  assert.deepEqual(argv('["uname","-a", "x y|z"]'), ['uname', '-a', 'x y|z'])
})

test('the program [ is no JSON', () => {
  assert.deepEqual(argv('[ -f /etc/passwd ]'), ['[', '-f', '/etc/passwd', ']'])
})

test('what cannot be sent is said', () => {
  for (const line of ['', '   ', 'echo "a', "echo 'a", 'echo \\', '["a", 1]', '[]', '["a"']) {
    assert.ok('problem' in parseArgv(line), line)
  }
})

test('unquoted shell characters are named, quoted ones are not', () => {
  const parsed = parseArgv(`cat /etc/* | grep '$x' > out`)
  assert.ok('argv' in parsed)
  assert.deepEqual(parsed.shellMarks, ['*', '|', '>'])
})

test('a line through the shell stays one argument', () => {
  assert.deepEqual(throughShell('a | b', 'posix'), ['sh', '-c', 'a | b'])
  assert.deepEqual(throughShell('dir', 'windows'), ['cmd.exe', '/c', 'dir'])
})

test('argvLine is taken apart again into the same arguments', () => {
  const words = ['sh', '-c', `echo "it's" $x | cat`, '', 'a\\b', 'ü ö']
  assert.deepEqual(argv(argvLine(words)), words)
})
