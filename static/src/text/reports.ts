import type { ReportView } from '../generated/protocol'
import { detailSummary } from './audit.ts'
import { csvOf } from './csv.ts'
import { count, duration, exact, timeOf } from './format.ts'
import { collectorWords, reasonWords } from './presence.ts'
import { kindWords } from './words.ts'

/** `bad`: something was lost or fails; `notable`: worth a look when something was wrong at that time. */
export type ReportTone = 'plain' | 'good' | 'notable' | 'bad'

export interface ReportWords {
  title: string
  detail: string
  tone: ReportTone
}

type Data = ReportView['data']

const CLOSED: Record<number, string> = {
  1001: 'the other side went away',
  1006: 'connection lost',
  4400: 'a frame could not be read',
  4401: 'the hub did not know it',
  4403: 'the hub kept it out',
  4408: 'the start of the session took too long',
  4409: 'replaced by a newer session',
  4410: 'too slow to keep up',
  4413: 'a frame was too large',
  4426: 'its version does not fit the hub’s',
  4429: 'the hub was busy',
  4500: 'the hub had a fault',
  4503: 'the hub was stopped',
}
const LOST_BECAUSE: Record<string, string> = {
  bytes: 'its spool was full',
  age: 'older than its spool keeps',
  disk: 'its disk took nothing',
  restored: 'its spool went back to an earlier state',
}
const RENEWED_BECAUSE: Record<string, string> = {
  deleted: 'it was deleted',
  restored: 'an earlier state was restored',
  rescued: 'the one before could not be written any more',
}

/** What an agent reported of itself, as a person reads it. Nothing in `data` is taken for granted. */
export function reportWords({ kind, data }: Pick<ReportView, 'kind' | 'data'>): ReportWords {
  switch (kind) {
    case 'disconnected':
      return disconnected(data)
    case 'gap':
      return gap(data)
    case 'started':
      return started(data)
    case 'clock_stepped':
      return clockStepped(data)
    case 'collector_failing':
      return { title: start(`${collectorOf(data)} fails`), detail: text(data, 'reason'), tone: 'bad' }
    case 'collector_recovered':
      return { title: start(`${collectorOf(data)} works again`), detail: afterFailures(number(data, 'failures')), tone: 'good' }
    case 'spool_damaged':
      return { title: 'Spool damaged, a new one begun', detail: `the unreadable file is kept as ${text(data, 'moved_to')}`, tone: 'bad' }
    case 'spool_renewed':
      return { title: 'Spool begun anew', detail: RENEWED_BECAUSE[text(data, 'cause')] ?? text(data, 'cause'), tone: 'notable' }
    case 'spool_full':
      return { title: `Disk took no samples: ${count(number(data, 'dropped') ?? 0, 'sample')} lost`, detail: '', tone: 'bad' }
    default:
      return { title: kindWords(kind), detail: detailSummary(data), tone: 'plain' }
  }
}

function disconnected(data: Data): ReportWords {
  const forMs = number(data, 'for_ms')
  const attempts = number(data, 'attempts')
  const title = forMs === null ? 'Disconnected' : `Disconnected for ${duration(forMs / 1000)}`
  const tries = attempts !== null && attempts > 1 ? count(attempts, 'attempt') : ''
  return { title, detail: joined([endWords(number(data, 'code'), text(data, 'reason')), tries]), tone: 'notable' }
}

/** The end of a session: a goodbye has code 1000 and its reason; what else a reason says stands behind the code’s words. */
function endWords(code: number | null, reason: string): string {
  if (code === 1000 || code === null) return reason === '' ? '' : reasonWords(reason)
  const words = Object.hasOwn(CLOSED, code) ? CLOSED[code]! : `closed with code ${code}`
  return reason === '' || reason === words ? words : `${words} (${reason})`
}

function gap(data: Data): ReportWords {
  const dropped = number(data, 'dropped') ?? 0
  const cause = text(data, 'cause')
  const [from, to] = [number(data, 'from_ms'), number(data, 'to_ms')]
  const span = from === null || to === null ? '' : from === to ? exact(from) : `${exact(from)} – ${exact(to)}`
  if (dropped === 0) return { title: 'Numbers renewed, nothing lost', detail: span, tone: 'plain' }
  const what = text(data, 'stream') === 'events' ? 'report' : 'sample'
  return { title: `${count(dropped, what)} lost`, detail: joined([LOST_BECAUSE[cause] ?? cause, span]), tone: 'bad' }
}

function started(data: Data): ReportWords {
  const downMs = number(data, 'down_ms')
  const version = text(data, 'version')
  const crashed = data.clean === false && downMs !== null
  const after = downMs === null ? 'for the first time' : `after ${duration(downMs / 1000)} down`
  return {
    title: `Agent started ${after}`,
    detail: joined([crashed ? 'it had ended without order: killed, crashed, or the power was cut' : '', version && `version ${version}`]),
    tone: crashed ? 'notable' : 'plain',
  }
}

function clockStepped(data: Data): ReportWords {
  const byMs = number(data, 'by_ms') ?? 0
  const way = byMs < 0 ? 'back' : 'forward'
  return { title: `Clock stepped ${duration(Math.abs(byMs) / 1000)} ${way}`, detail: 'times of its samples were put right', tone: 'notable' }
}

function afterFailures(failures: number | null): string {
  return failures === null ? '' : `after ${count(failures, 'failure')}`
}

function collectorOf(data: Data): string {
  return collectorWords(text(data, 'collector') || 'a')
}

function number(data: Data, name: string): number | null {
  const value = data[name]
  return typeof value === 'number' && Number.isFinite(value) ? value : null
}

function text(data: Data, name: string): string {
  const value = data[name]
  return typeof value === 'string' ? value : ''
}

function start(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1)
}

function joined(parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join(' · ')
}

/** `reports` by local day, in the order they have. */
export function byDay(reports: readonly ReportView[]): [string, ReportView[]][] {
  const days: [string, ReportView[]][] = []
  for (const report of reports) {
    const day = exact(timeOf(report.at)).slice(0, 10)
    const last = days.at(-1)
    if (last?.[0] === day) last[1].push(report)
    else days.push([day, [report]])
  }
  return days
}

export function reportsCsv(reports: readonly ReportView[]): string {
  const rows = reports.map((report) => {
    const { title, detail } = reportWords(report)
    return [report.at, report.kind, title, detail, JSON.stringify(report.data)]
  })
  return csvOf([['at', 'kind', 'what', 'detail', 'data'], ...rows])
}
