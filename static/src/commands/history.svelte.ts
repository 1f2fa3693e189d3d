import type { AgentCommandResult, AgentCommandStatus, CommandStatus, CommandView } from '../generated/protocol'
import { wordsOf } from '../hub/refusal'
import { type HubSocket } from '../hub/socket.svelte'
import { isFinished } from '../text/words'

const RELOAD_PAUSE_MS = 300
export const RUNNING: readonly CommandStatus[] = ['PENDING', 'SENT', 'EXECUTING']

export interface CommandsQuery {
  agentId: string | null
  status: CommandStatus | 'RUNNING' | null
  limit: number
  offset: number
}

/** A list of commands, newest first, kept up by events. */
export class CommandHistory {
  commands = $state.raw<readonly CommandView[]>([])
  total = $state(0)
  loaded = $state(false)
  problem = $state('')

  readonly #hub: HubSocket
  readonly #query: CommandsQuery
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(hub: HubSocket, query: CommandsQuery) {
    this.#hub = hub
    this.#query = query
  }

  /** Listen until the returned function is called. */
  open(): () => void {
    const offs = [
      this.#hub.whenLive(() => void this.#load()),
      this.#hub.on('agent:command:status', (event) => this.#change(event, { status: event.status })),
      this.#hub.on('agent:command:result', (event) => this.#change(event, resultOf(event))),
    ]
    return () => {
      for (const off of offs) off()
      clearTimeout(this.#timer)
    }
  }

  add(command: CommandView): void {
    if (this.commands.some((one) => one.id === command.id)) return
    this.commands = [command, ...this.commands].slice(0, this.#query.limit)
    this.total++
  }

  /** The status alone never changes a command that has ended; its result, which follows, does. */
  #change(event: AgentCommandStatus | AgentCommandResult, change: Partial<CommandView>): void {
    if (this.#query.agentId !== null && event.agentId !== this.#query.agentId) return
    const at = this.commands.findIndex((command) => command.id === event.commandId)
    const known = this.commands[at]
    if (known === undefined) this.#reloadSoon()
    else if (!isFinished(known.status) || 'finishedAt' in change) this.commands = this.commands.with(at, { ...known, ...change })
  }

  #reloadSoon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      void this.#load()
    }, RELOAD_PAUSE_MS)
  }

  async #load(): Promise<void> {
    const { agentId, status, limit, offset } = this.#query
    try {
      const statuses = status === 'RUNNING' ? RUNNING : [status]
      const replies = await Promise.all(
        statuses.map((one) => this.#hub.ask('commands:list', { agentId, status: one, limit, offset })),
      )
      this.commands = replies.flatMap((reply) => reply.commands).toSorted((a, b) => b.createdAt.localeCompare(a.createdAt))
      this.total = replies.reduce((sum, reply) => sum + reply.total, 0)
      this.loaded = true
      this.problem = ''
    } catch (error) {
      this.problem = wordsOf(error)
    }
  }
}

function resultOf({ status, exitCode, reason, result, finishedAt }: AgentCommandResult): Partial<CommandView> {
  return { status, exitCode, reason, result, finishedAt }
}
