import type { AgentCommandResult, AgentCommandStatus, CommandStatus, CommandView } from '../generated/protocol'
import { wordsOf } from '../hub/refusal'
import { type HubSocket } from '../hub/socket.svelte'
import { isFinished } from '../text/words'

const NEW_PAUSE_MS = 300
const ENDED_PAUSE_MS = 1_500

/** Null is any. `createdBy`: an actor as the hub writes it, as in `user:admin`. `fromMs`: made then or later. */
export interface JobsFilter {
  agentId: string | null
  status: CommandStatus | 'RUNNING' | null
  createdBy: string | null
  fromMs: number | null
}

export interface JobsPage extends JobsFilter {
  limit: number
  offset: number
}

/** A list of jobs, newest first, kept up by events. */
export class JobHistory {
  commands = $state.raw<readonly CommandView[]>([])
  total = $state(0)
  loaded = $state(false)
  problem = $state('')

  readonly #hub: HubSocket
  readonly #page: JobsPage
  #asked = 0
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(hub: HubSocket, page: JobsPage) {
    this.#hub = hub
    this.#page = page
  }

  /** Listen until the returned function is called. */
  open(): () => void {
    const offs = [
      this.#hub.whenLive(() => void this.#load()),
      this.#hub.on('agent:command:status', (event) => this.#change(event, { status: event.status, cancelRequested: event.cancelRequested })),
      this.#hub.on('agent:command:result', (event) => this.#change(event, resultOf(event))),
    ]
    return () => {
      for (const off of offs) off()
      clearTimeout(this.#timer)
      this.#timer = undefined
      this.#asked++
    }
  }

  add(command: CommandView): void {
    if (this.commands.some((one) => one.id === command.id)) return
    this.commands = [command, ...this.commands].slice(0, this.#page.limit)
    this.total++
  }

  /**
   * What an event tells is shown at once; what it leaves out is asked for a little later. The status alone never changes
   * a job that has ended; its result, which follows, does.
   */
  #change(event: AgentCommandStatus | AgentCommandResult, change: Partial<CommandView>): void {
    if (this.#page.agentId !== null && event.agentId !== this.#page.agentId) return
    const at = this.commands.findIndex((command) => command.id === event.commandId)
    const known = this.commands[at]
    if (known === undefined) this.#reloadIn(NEW_PAUSE_MS)
    else if (!isFinished(known.status) || 'finishedAt' in change) {
      this.commands = this.commands.with(at, { ...known, ...change })
      if ('finishedAt' in change) this.#reloadIn(ENDED_PAUSE_MS)
    }
  }

  #reloadIn(pauseMs: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      void this.#load()
    }, pauseMs)
  }

  #listed(): Promise<{ commands: readonly CommandView[]; total: number }> {
    const { status, ...page } = this.#page
    return this.#hub.ask('commands:list', status === 'RUNNING' ? { ...page, ended: false } : { ...page, status })
  }

  async #load(): Promise<void> {
    const asked = ++this.#asked
    try {
      const { commands, total } = await this.#listed()
      if (asked !== this.#asked) return
      this.commands = commands
      this.total = total
      this.loaded = true
      this.problem = ''
    } catch (error) {
      if (asked === this.#asked) this.problem = wordsOf(error)
    }
  }
}

function resultOf({ status, exitCode, reason, result, finishedAt }: AgentCommandResult): Partial<CommandView> {
  return { status, exitCode, reason, result, finishedAt }
}
