import { wordsOf } from '../hub/refusal'

/** One thing a person tries at a time: whether it runs, and why it failed. */
export class Attempt {
  busy = $state(false)
  problem = $state('')

  /** Whether `work` succeeded; where it did not, `problem` says so. */
  async run(work: () => Promise<unknown>): Promise<boolean> {
    if (this.busy) return false
    this.busy = true
    this.problem = ''
    try {
      await work()
      return true
    } catch (error) {
      this.problem = wordsOf(error)
      return false
    } finally {
      this.busy = false
    }
  }
}
