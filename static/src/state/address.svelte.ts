import { type KnownRoute, addressOf, routeOf } from './routes'

/** The address bar as a value; what the pages show follows from it. */
class Address {
  #hash = $state(location.hash)
  readonly route = $derived(routeOf(this.#hash))

  constructor() {
    addEventListener('hashchange', () => (this.#hash = location.hash))
  }

  go(route: KnownRoute): void {
    location.hash = addressOf(route)
  }

  /** Change the address without a step in the browser's history, as while typing. */
  replace(route: KnownRoute): void {
    history.replaceState(null, '', addressOf(route))
    this.#hash = location.hash
  }
}

export const address = new Address()
