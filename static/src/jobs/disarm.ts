import type { IFunctionIdentifier, Terminal } from '@xterm/xterm'

/** Titles, colours of the palette, links, clipboard, notifications, and what other terminals made of these. */
const STRINGS = [0, 1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 13, 17, 19, 50, 52, 99, 104, 110, 111, 112, 133, 633, 777, 1337]

/** Modes, reports and window operations, and all that takes away what was shown. */
const SEQUENCES: readonly IFunctionIdentifier[] = [
  ...['h', 'l', 't', 'n', 'c', 'q', 'r', 's', 'u', 'i', 'J', 'L', 'M', 'S', 'T', 'A', 'B', 'E', 'F', 'H', 'd', 'f'].map((final) => ({ final })),
  ...['h', 'l', 'n', 'J', 'K', 'c'].map((final) => ({ prefix: '?', final })),
  ...['c', 'q'].map((final) => ({ prefix: '>', final })),
  { prefix: '=', final: 'c' },
  { intermediates: '!', final: 'p' },
  { intermediates: '$', final: 'p' },
  { prefix: '?', intermediates: '$', final: 'p' },
  { intermediates: ' ', final: 'q' },
]
const RESET: IFunctionIdentifier = { final: 'c' }
const REPORTS: IFunctionIdentifier = { intermediates: '$', final: 'q' }

/**
 * Take from a terminal all that could do more than show. `StreamText` lets nothing of it through: this holds where that
 * should ever fail.
 */
export function disarm({ parser }: Terminal): void {
  for (const id of STRINGS) parser.registerOscHandler(id, () => true)
  for (const id of SEQUENCES) parser.registerCsiHandler(id, () => true)
  parser.registerEscHandler(RESET, () => true)
  parser.registerDcsHandler(REPORTS, () => true)
}
