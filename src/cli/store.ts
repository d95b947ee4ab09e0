/**
 * `litevol store log` and `litevol store check`: the store of a data root, looked at from outside.
 * Keeps: nothing is changed and no lock is taken: both work while a manager runs. Standard output is the answer, notes go to standard error.
 * Leaves: reading and checking to manager, reached through main.ts.
 */
import { inspectStore, type HistoryEntry, type StoreInspection } from '../main.ts'

type Change = Extract<HistoryEntry, { kind: 'change' }>
type RecordChange = Change['records'][number]

/** Prints the history, oldest first; with `isJson` one JSON object a line. Throws as inspectStore does. */
export function printHistory(dataRoot: string, isJson: boolean): void {
  const inspection = inspectStore(dataRoot)
  printNotes(inspection)
  const format = isJson ? (entry: HistoryEntry): string => JSON.stringify(entry) : formatEntry
  process.stdout.write(inspection.history.map((entry) => `${format(entry)}\n`).join(''))
}

/** Prints what was found sound. Throws as inspectStore does. */
export function printCheck(dataRoot: string): void {
  const inspection = inspectStore(dataRoot)
  const { file, volumes, changes, generation, sizeBytes } = inspection
  printNotes(inspection)
  const since = `${String(changes)} changes since snapshot ${String(generation)}, ${String(sizeBytes)} bytes`
  process.stdout.write(`${file}: sound, ${String(volumes)} volumes (${since})\n`)
}

function printNotes({ file, notes }: StoreInspection): void {
  for (const note of notes) process.stderr.write(`litevol: ${file}: ${note}\n`)
}

function formatEntry(entry: HistoryEntry): string {
  switch (entry.kind) {
    case 'snapshot':
      return `snapshot ${String(entry.generation)}  ${entry.at}  ${entry.why} (${String(entry.volumes)} volumes)`
    case 'change':
      return [`change ${String(entry.seq)}  ${entry.at}  ${entry.who}: ${entry.action}`, ...entry.records.flatMap(formatRecord)].join('\n')
  }
}

/** A record that came or went in one line; of another each field that differs. */
function formatRecord({ id, before, after }: RecordChange): string[] {
  if (before === undefined) return [`  + ${id} ${JSON.stringify(withoutId(after))}`]
  if (after === undefined) return [`  - ${id} ${JSON.stringify(withoutId(before))}`]
  const [old, now] = [withoutId(before), withoutId(after)]
  const fields = [...new Set([...Object.keys(old), ...Object.keys(now)])].filter((field) => textOf(old[field]) !== textOf(now[field]))
  return [`  ~ ${id}`, ...fields.map((field) => `      ${field}: ${textOf(old[field])} -> ${textOf(now[field])}`)]
}

function withoutId(record: unknown): Readonly<Record<string, unknown>> {
  return typeof record === 'object' ? { ...record, id: undefined } : {}
}

function textOf(value: unknown): string {
  return value === undefined ? 'absent' : JSON.stringify(value)
}
