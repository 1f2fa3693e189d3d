export const PASSWORD_LEAST = 12
const LENGTH = 20
/** Without characters that are mistaken for each other. */
const LETTERS = 'abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789'

/** Why the hub would refuse this password for its length; empty where it would not. */
export function passwordProblem(password: string): string {
  const length = [...password].length
  return length > 0 && length < PASSWORD_LEAST ? `${length} characters: ${PASSWORD_LEAST} at least` : ''
}

/** A password nobody has to think up: about 116 bits in groups of five. `fill` fills its argument with random bytes. */
export function newPassword(fill: (bytes: Uint8Array<ArrayBuffer>) => void = (bytes) => void crypto.getRandomValues(bytes)): string {
  const even = 256 - (256 % LETTERS.length)
  let letters = ''
  while (letters.length < LENGTH) {
    const bytes = new Uint8Array(LENGTH)
    fill(bytes)
    for (const byte of bytes) if (byte < even) letters += LETTERS[byte % LETTERS.length]
  }
  return inGroups(letters.slice(0, LENGTH), 5, '-')
}

/** `ABCDEFGHIJ` as `ABCDE FGHIJ`: easier to compare and to type. */
export function inGroups(text: string, size: number, between = ' '): string {
  return text.replaceAll(new RegExp(`(.{${size}})(?=.)`, 'g'), `$1${between}`)
}
