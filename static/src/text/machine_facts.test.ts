import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NewestMetric } from '../generated/protocol.ts'
import { agentFacts, securityFacts } from './machine_facts.ts'

const newest = (metricType: string, metricData: NewestMetric['metricData']): NewestMetric[] => [{ metricType, timestamp: 5, metricData }]
const told = (metricData: NewestMetric['metricData']) => securityFacts(newest('security', metricData), 10, 7_200_000).map((fact) => [fact.word, fact.value, fact.tone])

test('what protects the machine is on, off, or not known', () => {
  assert.deepEqual(told({ firewall_enabled: true, firewall: 'nftables', antivirus_enabled: false, updates_available: 0 }), [
    ['Firewall', 'on · nftables', 'good'],
    ['Antivirus', 'off', 'bad'],
    ['Updates', 'none waiting', 'good'],
  ])
  assert.deepEqual(told({ reboot_required: true }).map(([, value]) => value), ['not known', 'not known', 'not known', 'needed'])
  assert.deepEqual(securityFacts([], 10, 0), [])
})

test('updates are bad when there are more than the machine’s limit, or when they are for security', () => {
  assert.deepEqual(told({ updates_available: 11, updates_as_of_ms: 0 })[2], ['Updates', '11 waiting · as of 2 h ago', 'bad'])
  assert.deepEqual(told({ updates_available: 2, security_updates: 1 })[2], ['Updates', '2 waiting · 1 for security', 'bad'])
  assert.deepEqual(told({ updates_available: 2, security_updates: 0 })[2], ['Updates', '2 waiting', 'plain'])
})

test('the agent tells of itself what it knows, and what it lost', () => {
  const facts = agentFacts(newest('agent', { heartbeat_success_percent: 90, round_trip_ms: 2.51, spool_bytes: 2048, spool_waiting_live: 1, spool_waiting_events: 2, spool_dropped_live: 4, reconnects: 'x' }))
  assert.deepEqual(facts, [
    { word: 'Heartbeats answered', value: '90.0%', tone: 'bad' },
    { word: 'Answer of the hub', value: '2.5 ms', tone: 'plain' },
    { word: 'Spool', value: '2.00 KiB · 3 entries waiting for the hub', tone: 'plain' },
    { word: 'Lost', value: '4 entries: see Reports', tone: 'bad' },
  ])
})
