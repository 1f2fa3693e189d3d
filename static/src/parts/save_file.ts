const KEPT_MS = 10_000

/** Let the browser save `text` as a file; `type` as in `text/csv`. */
export function saveFile(name: string, type: string, text: string): void {
  save(name, new Blob([text], { type: `${type};charset=utf-8` }))
}

/** Let the browser save bytes as a file, as they are. */
export function saveBytes(name: string, parts: BlobPart[]): void {
  save(name, new Blob(parts, { type: 'application/octet-stream' }))
}

function save(name: string, content: Blob): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(content)
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT_MS)
}
