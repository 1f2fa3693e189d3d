const NOTICEABLE_MS = 2_000

/** The hub's time, to the second, so that ages are right also where this computer's clock is not. */
class Clock {
  now = $state(Date.now())
  #aheadMs = 0

  constructor() {
    setInterval(() => this.tick(), 1_000)
    document.addEventListener('visibilitychange', () => this.tick())
  }

  tick(): void {
    if (!document.hidden) this.now = Date.now() + this.#aheadMs
  }

  /** Learn from the `Date` header of an answer that has just come; it is cut to the second. */
  learn(date: string | null): void {
    const aheadMs = date === null ? NaN : Date.parse(date) + 500 - Date.now()
    if (Number.isNaN(aheadMs)) return
    this.#aheadMs = Math.abs(aheadMs) < NOTICEABLE_MS ? 0 : aheadMs
    this.tick()
  }
}

export const clock = new Clock()
