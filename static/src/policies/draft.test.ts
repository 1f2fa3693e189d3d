import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PolicyTerms } from '../generated/protocol'
import { NEW_POLICY, termsOf, draftOf, draftProblem, gist } from './draft.ts'
import { EXAMPLES, FACTS, checkProblem, operatorsOf, takesValue } from './facts.ts'

const HASH = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'
const FULL: PolicyTerms = {
  name: 'Web servers',
  enabled: false,
  tags: ['web', 'prod'],
  turnedOff: ['reboot'],
  commands: {
    allowedActions: ['exec'],
    deniedActions: ['kill'],
    allowedPrograms: ['uptime', '/usr/bin/df'],
    deniedPrograms: ['rm'],
    allowedScripts: [
      { sha256: HASH, interpreter: 'bash', note: 'rotate the logs' },
      { sha256: HASH, interpreter: 'sh', note: '' },
    ],
    deniedScripts: [HASH],
    allowedEnvironment: ['LANG'],
    allowedRunAs: ['deploy'],
    reasonRequired: true,
    secondSignatureRequired: true,
  },
  checks: [
    { name: 'Firewall', fact: 'security.firewall_enabled', operator: 'equals', value: true, subject: '', severity: 'ERROR' },
    { name: 'Updates', fact: 'security.updates_age_days', operator: 'at_most', value: 30, subject: '', severity: 'WARNING' },
    { name: 'System', fact: 'os.name', operator: 'one_of', value: ['Debian', 'Ubuntu'], subject: '', severity: 'INFO' },
    { name: 'OpenSSL', fact: 'package', operator: 'version_at_least', value: '3.0.13', subject: 'openssl', severity: 'WARNING' },
    { name: 'No telnet', fact: 'package', operator: 'absent', value: null, subject: 'telnetd', severity: 'CRITICAL' },
  ],
}

test('a policy that is opened and saved stays as it was', () => {
  for (const terms of [FULL, NEW_POLICY]) assert.deepEqual(termsOf(draftOf(terms), terms), terms)
  assert.equal(draftProblem(draftOf(FULL)), null)
})

test('a list that is turned off allows everything again', () => {
  const { commands } = termsOf({ ...draftOf(FULL), lists: false }, FULL)
  assert.deepEqual([commands.allowedPrograms, commands.allowedScripts, commands.allowedEnvironment], [null, null, []])
  assert.deepEqual(termsOf({ ...draftOf(NEW_POLICY), lists: true }, NEW_POLICY).commands.allowedPrograms, [])
  assert.equal(termsOf({ ...draftOf(FULL), onlyActions: false }, FULL).commands.allowedActions, null)
  assert.deepEqual(termsOf({ ...draftOf(NEW_POLICY), onlyActions: true }, NEW_POLICY).commands.allowedActions, [])
})

test('what the hub would refuse is told before it is sent', () => {
  const good = draftOf(FULL)
  const [first, ...rest] = good.checks
  assert.ok(first)
  assert.match(draftProblem({ ...good, name: ' ' }) ?? '', /name/)
  assert.match(draftProblem({ ...good, deniedActions: ['exec', 'kill'] }) ?? '', /^Actions: “Program”/)
  assert.equal(draftProblem({ ...good, deniedActions: ['exec'], onlyActions: false }), null)
  assert.match(draftProblem({ ...good, tagText: 'x'.repeat(65) }) ?? '', /^Tags/)
  assert.match(draftProblem({ ...good, scripts: 'rotate.sh' }) ?? '', /^Scripts: “rotate.sh”/)
  assert.equal(draftProblem({ ...good, scripts: 'rotate.sh', lists: false }), null)
  assert.match(draftProblem({ ...good, deniedScripts: HASH.toUpperCase() }) ?? '', /^Denied scripts/)
  assert.match(draftProblem({ ...good, runAs: '-x' }) ?? '', /^Run as/)
  assert.match(draftProblem({ ...good, checks: [first, ...rest, { ...first, name: 'FIREWALL' }] }) ?? '', /^Check 6: Another/)
})

test('a check needs a name, a value of its kind, and which package or service', () => {
  const check = { key: 0, name: 'c', subject: '', severity: 'WARNING' } as const
  assert.equal(checkProblem({ ...check, fact: 'package', operator: 'absent', value: '' }, []), 'Say which package.')
  assert.equal(checkProblem({ ...check, fact: 'package', operator: 'absent', value: '', subject: 'telnetd' }, []), '')
  assert.equal(checkProblem({ ...check, fact: 'hardware.cpu_cores', operator: 'at_least', value: 'many' }, []), 'Give a number.')
  assert.equal(checkProblem({ ...check, fact: 'hardware.cpu_cores', operator: 'at_least', value: '' }, []), 'Give a number.')
  assert.equal(checkProblem({ ...check, fact: 'os.name', operator: 'one_of', value: ' , ' }, []), 'Give at least one value.')
  assert.equal(checkProblem({ ...check, fact: 'os.name', operator: 'equals', value: ' ' }, []), 'Give a value.')
  assert.equal(checkProblem({ ...check, name: '', fact: 'os.name', operator: 'equals', value: 'x' }, []), 'Give the check a name.')
})

test('only what has a name can be there or not', () => {
  for (const [fact, { named }] of Object.entries(FACTS)) {
    assert.equal(operatorsOf(fact as keyof typeof FACTS).some((operator) => !takesValue(operator)), named !== undefined, fact)
  }
})

test('the examples are good checks', () => {
  for (const [at, example] of EXAMPLES.entries()) {
    assert.equal(checkProblem({ ...example, key: at }, []), '', example.name)
    assert.ok(operatorsOf(example.fact).includes(example.operator), example.name)
  }
})

test('a policy is told in a few words', () => {
  assert.deepEqual(gist(NEW_POLICY), [])
  assert.deepEqual(gist(FULL), ['1 turned off', 'only listed programs', 'only program', 'never kill', '2 denied', 'some users only', 'reason', 'second signature', '5 checks'])
})
