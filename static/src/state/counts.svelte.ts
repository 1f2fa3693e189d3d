import type { FleetCounts } from '../generated/protocol'
import { type HubSocket, hub } from '../hub/socket.svelte'

/** The numbers at the top: how many machines there are, and in which state. */
class Counts {
  fleet = $state.raw<FleetCounts | null>(null)
  /** All machines, whatever the filter of a page is. */
  machines = $state<number | null>(null)

  constructor(hub: HubSocket) {
    hub.on('agents:status', (event) => {
      this.fleet = event.counts
      this.machines = event.total
    })
    hub.whenClosed(() => {
      this.fleet = null
      this.machines = null
    })
  }
}

export const counts = new Counts(hub)
