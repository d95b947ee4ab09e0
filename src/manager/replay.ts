/**
 * From the lines of a journal to the records: every patch is applied and its result checked.
 * Keeps: nothing is taken over that the schema, the numbering or the uniqueness of names and files would not allow; the line that brings
 *   it is refused. A patch never reaches a record that its paths do not name.
 * Leaves: taking lines apart to journal.ts, writing a migrated store to journal-store.ts.
 */
import { applyPatch, createPatch } from 'rfc6902'
import { damaged, newerStore, type Journal, type JournalChange, type JournalLine, type PatchOperation } from './journal.ts'
import { migrate, type Migration } from './migrations.ts'
import { keyedRecords, volumeRecords, type KeyedRecord, type VolumeRecord } from './record.ts'
import { RecordSet, type RecordChanges } from './record-set.ts'

/** What one change did to one record. */
export interface RecordChange {
  readonly id: string
  readonly before: unknown
  readonly after: unknown
}

/** Called for each change of a journal, in order. */
export type ChangeListener = (change: JournalChange, records: readonly RecordChange[]) => void

/** The records after all changes, migrated. Throws EIO `store_damaged` naming line and byte, EIO `newer_format`. */
export function replay(file: string, journal: Journal, list: readonly Migration[], onChange?: ChangeListener): RecordSet<VolumeRecord> {
  const { schema } = journal.header
  if (schema > list.length) throw newerStore(file, `records of version ${String(schema)}`)
  if (schema === list.length) return replayOnto(new RecordSet(volumeRecords), file, journal, onChange)
  const old = replayOnto(new RecordSet(keyedRecords), file, journal, onChange)
  return collect(old.list().map((record) => migrate(record, schema, list)), (fault) => damaged(file, { number: 1, offset: 0 }, `after migration, ${fault}`)) // prettier-ignore
}

/** A set of records of this version. Throws what `refuse` makes of a fault. */
export function collect(records: readonly unknown[], refuse: (fault: string) => Error): RecordSet<VolumeRecord> {
  const set = new RecordSet(volumeRecords)
  for (const record of records) add(set, record, refuse)
  return set
}

/** The patch that turns the records of `before` into those of `after`; undefined is no record. */
export function diffRecords(before: RecordChanges<object>, after: RecordChanges<object>): PatchOperation[] {
  const patch = createPatch(toDocument(before), toDocument(after))
  return patch.filter((operation): operation is typeof operation & PatchOperation => isOurs(operation.op))
}

/** createPatch makes no others of objects without arrays; move and copy would reach beyond the record that a path names. */
function isOurs(op: string): boolean {
  if (op === 'add' || op === 'remove' || op === 'replace') return true
  throw new Error(`a patch has the operation ${op}`)
}

function replayOnto<R extends KeyedRecord>(set: RecordSet<R>, file: string, journal: Journal, onChange?: ChangeListener): RecordSet<R> {
  for (const line of journal.records) add(set, line.body, (fault) => damaged(file, line, fault))
  let { seq } = journal.header
  for (const line of journal.changes) {
    seq += 1
    if (line.body.seq !== seq) throw damaged(file, line, `change ${String(line.body.seq)} where change ${String(seq)} belongs`)
    applyChange(set, file, line, onChange)
  }
  return set
}

function add<R extends KeyedRecord>(set: RecordSet<R>, record: unknown, refuse: (fault: string) => Error): void {
  const result = set.add(record)
  if (result !== undefined) throw refuse(result.fault)
}

function applyChange<R extends KeyedRecord>(
  set: RecordSet<R>,
  file: string,
  line: JournalLine<JournalChange>,
  onChange?: ChangeListener,
): void {
  const before = new Map(line.body.patch.map(({ path }) => [idOf(path), set.find(idOf(path))]))
  const document = structuredClone(toDocument(before)) // a patch is applied in place
  const fault = applyPatch(document, [...line.body.patch]).find((error) => error !== null)
  if (fault !== undefined) throw damaged(file, line, `the patch does not apply: ${fault.message}`)
  const result = set.check(new Map([...before.keys()].map((id) => [id, document[id]])))
  if ('fault' in result) throw damaged(file, line, result.fault)
  set.apply(result.changes)
  onChange?.(line.body, [...before].map(([id, record]) => ({ id, before: record, after: result.changes.get(id) }))) // prettier-ignore
}

/** The first part of a path, which is checked to be a volume's id: no part of it is escaped. */
function idOf(path: string): string {
  return path.split('/')[1] ?? ''
}

function toDocument(records: RecordChanges<object>): Record<string, unknown> {
  return Object.fromEntries([...records].filter(([, record]) => record !== undefined))
}
