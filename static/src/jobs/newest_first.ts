import type { CommandView } from '../generated/protocol'

/** The part of several lists, put together newest first, that begins at `offset`. */
export function pageOfLists<Listed extends Pick<CommandView, 'createdAt'>>(lists: readonly (readonly Listed[])[], limit: number, offset: number): Listed[] {
  const whole = lists.flat().toSorted((a, b) => Date.parse(b.createdAt) - Date.parse(a.createdAt))
  return whole.slice(offset, offset + limit)
}
