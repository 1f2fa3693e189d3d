/** Under `LANG=C` some browsers call their language `en-US@posix`, with which `Intl` and uPlot throw. */
if (!isKnown(navigator.language)) {
  Object.defineProperty(navigator, 'language', { value: 'en-US', configurable: true })
}

function isKnown(language: string): boolean {
  try {
    return Intl.getCanonicalLocales(language).length > 0
  } catch {
    return false
  }
}
