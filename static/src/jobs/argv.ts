/**
 * A typed line as the list of arguments that will be sent. No shell is involved: nothing is expanded, piped or redirected.
 *
 * `posix`: quotes of both kinds; a backslash takes the next character as it is (inside double quotes only before `"` and `\`).
 * `windows`: double quotes only; a backslash is a backslash, except before a double quote.
 */
export type Quoting = 'posix' | 'windows'
export type Parsed = { argv: string[]; shellMarks: string[] } | { problem: string }

const SHELL_MARKS = new Set(['|', '&', ';', '<', '>', '*', '?', '$', '`', '~'])

export function quotingOf(osType: string): Quoting {
  return osType.toLowerCase().startsWith('win') ? 'windows' : 'posix'
}

/** Parse `line`; `shellMarks` are the unquoted characters that a shell would act on and this program does not. */
export function parseArgv(line: string, quoting: Quoting = 'posix'): Parsed {
  const text = line.trim()
  if (text === '') return { problem: 'Type a command.' }
  if (/^\[\s*("|\])/.test(text)) return parseJson(text)
  return parseWords(text, quoting)
}

function parseJson(text: string): Parsed {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return { problem: 'This starts like a JSON list, but is not valid JSON.' }
  }
  if (!Array.isArray(value) || value.length === 0) return { problem: 'The list is empty.' }
  if (!value.every((item) => typeof item === 'string')) return { problem: 'Every item of the list must be a text.' }
  return { argv: value as string[], shellMarks: [] }
}

function parseWords(text: string, quoting: Quoting): Parsed {
  const argv: string[] = []
  const marks = new Set<string>()
  let word: string | null = null
  let quote = ''
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!
    const next = text[at + 1]
    if (char === '\\' && escapes(quote, next, quoting)) {
      if (next === undefined) return { problem: 'The line ends with a lone backslash.' }
      word = (word ?? '') + next
      at++
    } else if (quote !== '') {
      if (char === quote) quote = ''
      else word = (word ?? '') + char
    } else if (char === '"' || (char === "'" && quoting === 'posix')) {
      quote = char
      word ??= ''
    } else if (/\s/.test(char)) {
      if (word !== null) argv.push(word)
      word = null
    } else {
      if (SHELL_MARKS.has(char)) marks.add(char)
      word = (word ?? '') + char
    }
  }
  if (quote !== '') return { problem: `A ${quote === '"' ? 'double' : 'single'} quote is not closed.` }
  if (word !== null) argv.push(word)
  return { argv, shellMarks: [...marks] }
}

function escapes(quote: string, next: string | undefined, quoting: Quoting): boolean {
  if (quoting === 'windows') return next === '"'
  if (quote === "'") return false
  return quote === '' || next === '"' || next === '\\'
}

/** The arguments that run `line` through the machine's own shell. */
export function throughShell(line: string, quoting: Quoting): string[] {
  return quoting === 'windows' ? ['cmd.exe', '/c', line] : ['sh', '-c', line]
}

/** `argv` as one line that `parseArgv` takes apart again. */
export function argvLine(argv: readonly string[]): string {
  return argv.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)).join(' ')
}
