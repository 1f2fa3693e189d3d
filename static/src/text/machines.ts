import type { AgentSummary } from '../generated/protocol'
import { STATUS_WORDS } from './words.ts'

export type Named = Pick<AgentSummary, 'id' | 'name' | 'hostname' | 'site' | 'ipAddresses'>
type Chosen = Named & Pick<AgentSummary, 'status' | 'tags'>

/** Where a machine is, beside its name: `web-01.example · Zürich · 10.0.0.7`; the host name only where it differs from the name. */
export function placeWords({ name, hostname, site, ipAddresses }: Named): string {
  return [hostname === name ? '' : hostname, site, ipAddresses[0] ?? ''].filter((word) => word !== '').join(' · ')
}

/** By id, what tells apart those of `machines` that share their name: the place, and where that is shared too, the start of the id. */
export function tellApart(machines: readonly Named[]): Map<string, string> {
  const words = new Map<string, string>()
  for (const sameName of grouped(machines, (machine) => machine.name)) {
    if (sameName.length === 1) continue
    for (const samePlace of grouped(sameName, placeWords)) {
      for (const machine of samePlace) {
        const id = samePlace.length > 1 ? `id ${machine.id.slice(0, 8)}` : ''
        words.set(machine.id, [id, placeWords(machine)].filter((word) => word !== '').join(' · '))
      }
    }
  }
  return words
}

/** By id, what is said of each of `machines` beside its name where a person chooses one of them: `Active · Bern · web`. */
export function choiceWords(machines: readonly Chosen[]): Map<string, string> {
  const apart = tellApart(machines)
  return new Map(
    machines.map((machine) => {
      const words = [STATUS_WORDS[machine.status], apart.get(machine.id) ?? machine.site, ...machine.tags]
      return [machine.id, words.filter((word) => word !== '').join(' · ')]
    }),
  )
}

function grouped(machines: readonly Named[], keyOf: (machine: Named) => string): Iterable<Named[]> {
  const groups = new Map<string, Named[]>()
  for (const machine of machines) {
    const key = keyOf(machine)
    const group = groups.get(key)
    if (group) group.push(machine)
    else groups.set(key, [machine])
  }
  return groups.values()
}
