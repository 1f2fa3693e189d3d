/** The lengths the hub takes, in characters as it counts them: code points. */
export const SITE_MOST = 128
export const TAG_MOST = 64
export const TAGS_MOST = 64

/** `web, prod` as its tags. */
export function tagsOf(text: string): string[] {
  return text.split(/[\s,]+/).filter((tag) => tag !== '')
}

/** Why the hub would refuse this site; empty where it would not. */
export function siteProblem(site: string): string {
  const length = lengthOf(site.trim())
  return length > SITE_MOST ? `${length} characters: ${SITE_MOST} at most` : ''
}

/** Why the hub would refuse these tags; empty where it would not. */
export function tagsProblem(text: string): string {
  const tags = tagsOf(text)
  if (tags.length > TAGS_MOST) return `${tags.length} tags: ${TAGS_MOST} at most`
  const longest = Math.max(0, ...tags.map(lengthOf))
  return longest > TAG_MOST ? `a tag has ${longest} characters: ${TAG_MOST} at most` : ''
}

function lengthOf(text: string): number {
  return [...text].length
}
