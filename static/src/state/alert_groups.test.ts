import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AlertSeverity, AlertView } from '../generated/protocol'
import { groupsOf } from './alert_groups.ts'

function alert(id: string, type: string, severity: AlertSeverity, openedAt: string): AlertView {
  const rest = { message: '', state: 'OPEN', resolvedAt: null, resolvedBy: null } as const
  return { id, agentId: `agent-${id}`, hostname: `host-${id}`, type, severity, openedAt, ...rest }
}

test('the worst come first, then the newest; the same trouble is one group', () => {
  const groups = groupsOf([
    alert('1', 'cpu', 'WARNING', '2026-01-01T00:00:01Z'),
    alert('2', 'disk', 'WARNING', '2026-01-01T00:00:02Z'),
    alert('3', 'cpu', 'CRITICAL', '2026-01-01T00:00:00Z'),
    alert('4', 'cpu', 'WARNING', '2026-01-01T00:00:03Z'),
  ])
  assert.deepEqual(
    groups.map((group) => group.alerts.map((member) => member.id)),
    [['3'], ['4', '1'], ['2']],
  )
})
