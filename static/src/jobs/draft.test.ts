import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Draft, draftOf, emptyDraft, fieldOf, interpreterOf, orderOf, withAction } from './draft.ts'
import { parseArgv } from './argv.ts'

function dataOf(draft: Draft): unknown {
  const checked = orderOf(draft, 'posix')
  assert.ok('order' in checked, JSON.stringify(checked))
  return checked.order.commandData
}

test('each action sends its own data and nothing of the others', () => {
  const filled: Draft = { ...emptyDraft(), line: 'ls -l "a b"', script: 'echo $1\n', scriptLine: "'x y'", serviceName: ' nginx ', packageNames: 'curl, jq\nvim', pid: 77 }
  assert.deepEqual(dataOf(filled), { argv: ['ls', '-l', 'a b'] })
  assert.deepEqual(dataOf({ ...filled, action: 'script' }), { script: 'echo $1\n', interpreter: 'sh', arguments: ['x y'] })
  assert.deepEqual(dataOf({ ...filled, action: 'service', serviceVerb: 'restart' }), { verb: 'restart', name: 'nginx' })
  assert.deepEqual(dataOf({ ...filled, action: 'packages' }), { verb: 'install', names: ['curl', 'jq', 'vim'] })
  assert.deepEqual(dataOf({ ...filled, action: 'packages', packagesVerb: 'refresh' }), { verb: 'refresh', names: [] })
  assert.deepEqual(dataOf({ ...filled, action: 'kill', signal: 'HUP' }), { pid: 77, signal: 'HUP' })
  assert.deepEqual(dataOf({ ...filled, action: 'reboot' }), { delaySec: 5 })
  assert.deepEqual(dataOf({ ...filled, action: 'agent:restart' }), {})
})

test('environment, directory and user are sent where they are filled in', () => {
  const draft: Draft = { ...emptyDraft(), line: 'env', variables: [{ name: 'A', value: 'b=c' }, { name: '', value: '' }], workingDirectory: ' /srv ', runAs: 'www-data' }
  assert.deepEqual(dataOf(draft), { argv: ['env'], environment: { A: 'b=c' }, workingDirectory: '/srv', runAs: 'www-data' })
})

test('why is sent as it is given, and asked anew for a job that is run again', () => {
  const checked = orderOf({ ...emptyDraft('reboot'), reason: ' ticket 7 ' }, 'posix')
  assert.ok('order' in checked)
  assert.equal(checked.order.reason, 'ticket 7')
  assert.equal(draftOf(checked.order as Parameters<typeof draftOf>[0], 'posix').reason, '')
})

test('what is missing is said of its field', () => {
  const fieldWith = (changes: Partial<Draft>) => {
    const checked = orderOf({ ...emptyDraft(), ...changes }, 'posix')
    return 'field' in checked ? checked.field : null
  }
  assert.equal(fieldWith({ line: "echo 'a" }), 'line')
  assert.equal(fieldWith({ action: 'script', script: ' \n' }), 'script')
  assert.equal(fieldWith({ action: 'script', script: 'x', scriptLine: '"' }), 'scriptLine')
  assert.equal(fieldWith({ action: 'service' }), 'serviceName')
  assert.equal(fieldWith({ action: 'packages', packagesVerb: 'remove' }), 'packageNames')
  assert.equal(fieldWith({ action: 'packages', packagesVerb: 'upgrade' }), null)
  assert.equal(fieldWith({ action: 'kill' }), 'pid')
})

test('run again asks for the same: a draft of a command gives its data back', () => {
  const orders: [Draft['action'], Record<string, unknown>][] = [
    ['exec', { argv: ['sh', '-c', 'echo "a\nb" $x'], environment: { A: '1' }, workingDirectory: '/', runAs: 'nobody' }],
    ['script', { script: 'print(1)\n', interpreter: 'python3', arguments: ['-x', 'a b'] }],
    ['service', { verb: 'reload', name: 'nginx' }],
    ['packages', { verb: 'upgrade', names: [] }],
    ['kill', { pid: 9, signal: 'KILL' }],
    ['reboot', { delaySec: 60 }],
    ['agent:restart', {}],
  ]
  for (const [commandType, commandData] of orders) {
    for (const quoting of ['posix', 'windows'] as const) {
      const checked = orderOf(draftOf({ commandType, commandData, timeoutSec: 7 }, quoting), quoting)
      assert.ok('order' in checked)
      assert.deepEqual([checked.order.commandType, checked.order.commandData, checked.order.timeoutSec], [commandType, commandData, 7])
    }
  }
})

test('a line for one field never holds a line end', () => {
  const { line } = draftOf({ commandType: 'exec', commandData: { argv: ['printf', 'a\nb'] } }, 'posix')
  assert.equal(line.includes('\n'), false)
  assert.deepEqual(parseArgv(line), { argv: ['printf', 'a\nb'], shellMarks: [] })
})

test('the time to run follows the action until a person sets it', () => {
  assert.equal(withAction(emptyDraft(), 'packages').timeoutSec, 1800)
  assert.equal(withAction({ ...emptyDraft(), timeoutSec: 90 }, 'packages').timeoutSec, 90)
})

test('a refusal of the hub is shown at its field', () => {
  assert.deepEqual(
    ['$.commandData.argv[0]', '$.commandData.names[3]', '$.commandData.name', '$.agentId', '$.reason', '$.commandType', null].map(fieldOf),
    ['line', 'packageNames', 'serviceName', 'machine', 'reason', null, null],
  )
})

test('a script tells its interpreter by its first line, else by its name', () => {
  assert.equal(interpreterOf('x', '#!/usr/bin/env python3\n'), 'python3')
  assert.equal(interpreterOf('x', '#! /bin/bash -e\n'), 'bash')
  assert.equal(interpreterOf('deploy.PY', 'print()'), 'python3')
  assert.equal(interpreterOf('README', 'echo'), null)
})
