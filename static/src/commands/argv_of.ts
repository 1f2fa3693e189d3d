import { argvLine } from '../text/argv.ts'
import { visible } from '../text/visible.ts'

/** The arguments of an `exec` command; empty for anything else. */
export function argvOf(commandData: Record<string, unknown>): string[] {
  const { argv } = commandData
  return Array.isArray(argv) && argv.every((word) => typeof word === 'string') ? argv : []
}

/** What a command runs, as one line to read. */
export function lineOf(commandType: string, commandData: Record<string, unknown>): string {
  const argv = argvOf(commandData)
  return argv.length === 0 ? commandType : visible(argvLine(argv))
}
