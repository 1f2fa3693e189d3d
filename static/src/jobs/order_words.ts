import { visible } from '../text/visible.ts'
import { argvLine } from './argv.ts'

type Data = Record<string, unknown>

const ACTION_NAMES: Record<string, string> = {
  exec: 'Program',
  script: 'Script',
  service: 'Service',
  packages: 'Packages',
  kill: 'Kill',
  reboot: 'Reboot',
  'agent:restart': 'Restart agent',
}

export function actionName(commandType: string): string {
  return ACTION_NAMES[commandType] ?? commandType
}

/** What a job does, as one line to read. */
export function lineOf(commandType: string, data: Data): string {
  return visible(rawLine(commandType, data))
}

function rawLine(commandType: string, data: Data): string {
  switch (commandType) {
    case 'exec':
      return argvLine(wordsIn(data, 'argv')) || commandType
    case 'script':
      return [textIn(data, 'interpreter') || 'sh', 'script', argvLine(wordsIn(data, 'arguments')), firstLine(textIn(data, 'script'))]
        .filter((part) => part !== '')
        .join(' ')
    case 'service':
      return `${textIn(data, 'verb')} service ${textIn(data, 'name')}`
    case 'packages':
      return `${textIn(data, 'verb')} packages ${wordsIn(data, 'names').join(' ')}`.trim()
    case 'kill':
      return `kill process ${numberIn(data, 'pid') ?? '?'} with ${textIn(data, 'signal') || 'TERM'}`
    case 'reboot':
      return `reboot after ${numberIn(data, 'delaySec') ?? 5} s`
    case 'agent:restart':
      return 'restart the agent'
    default:
      return commandType
  }
}

/** The first line of a script that does something. */
function firstLine(script: string): string {
  const line = script.split('\n').find((one) => one.trim() !== '' && !one.startsWith('#'))
  return line === undefined ? '' : `· ${line.trim()}`
}

export function textIn(data: Data, name: string): string {
  const value = data[name]
  return typeof value === 'string' ? value : ''
}

export function numberIn(data: Data, name: string): number | null {
  const value = data[name]
  return typeof value === 'number' ? value : null
}

/** A list of texts; empty where there is none. */
export function wordsIn(data: Data, name: string): string[] {
  const value = data[name]
  return Array.isArray(value) && value.every((word) => typeof word === 'string') ? value : []
}
