import type { AlertSeverity, AlertView } from '../generated/protocol'

const ORDER: readonly AlertSeverity[] = ['CRITICAL', 'ERROR', 'WARNING', 'INFO']

/** Alerts of one kind and severity, newest first. */
export interface AlertGroup {
  key: string
  severity: AlertSeverity
  type: string
  alerts: readonly AlertView[]
}

/** The open alerts as people want to read them: the worst first, the same trouble on many machines once. */
export function groupsOf(alerts: readonly AlertView[]): AlertGroup[] {
  const groups = new Map<string, AlertView[]>()
  for (const alert of alerts) {
    const key = `${alert.severity} ${alert.type}`
    const group = groups.get(key)
    if (group) group.push(alert)
    else groups.set(key, [alert])
  }
  return [...groups]
    .map(([key, members]) => ({
      key,
      severity: members[0]!.severity,
      type: members[0]!.type,
      alerts: members.toSorted((a, b) => b.openedAt.localeCompare(a.openedAt)),
    }))
    .toSorted((a, b) => rank(a) - rank(b) || b.alerts[0]!.openedAt.localeCompare(a.alerts[0]!.openedAt))
}

function rank(group: AlertGroup): number {
  return ORDER.indexOf(group.severity)
}

/** The same alerts, the worst first, then the newest. */
export function worstFirst(alerts: readonly AlertView[]): AlertView[] {
  return alerts.toSorted(
    (a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity) || b.openedAt.localeCompare(a.openedAt),
  )
}
