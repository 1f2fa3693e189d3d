/** A cell that starts like this is run as a formula by spreadsheets. */
const FORMULA = /^[=+\-@\t\r]/

/** Rows as CSV (RFC 4180); text from machines and people stays text in a spreadsheet. */
export function csvOf(rows: readonly (readonly (string | number)[])[]): string {
  return rows.map((row) => `${row.map(cell).join(',')}\r\n`).join('')
}

function cell(value: string | number): string {
  const text = typeof value === 'string' && FORMULA.test(value) ? `'${value}` : String(value)
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
