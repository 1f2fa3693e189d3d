/** Whether the hub's address in a join string leads back to the machine it is used on: `jtnt://localhost:3001/#…`. */
export function staysOnThisMachine(joinString: string): boolean {
  const host = hostOf(joinString).toLowerCase()
  return host === 'localhost' || host.endsWith('.localhost') || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host)
}

function hostOf(joinString: string): string {
  return /^[a-z]+:\/\/(\[[^\]]*\]|[^/:#?]*)/i.exec(joinString)?.[1] ?? ''
}
