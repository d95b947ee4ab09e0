/**
 * All records of a store in memory, by id and by name, and what a change may do to them.
 * Keeps: every record has its kind; no two have the same id, name or file.
 * Leaves: the disk to journal-store.ts.
 */
import { keyedRecords, type KeyedRecord, type Kind } from './record.ts'

/** What a change leaves of the records it touches, by id; undefined: removed. */
export type RecordChanges<R> = ReadonlyMap<string, R | undefined>

const uniqueKeys = ['name', 'file'] as const

export class RecordSet<R extends KeyedRecord> {
  readonly #kind: Kind<R>
  /** Oldest first: a map keeps the place of a key whose value is replaced. */
  readonly #records = new Map<string, R>()
  /** The id of the record that has a name, or a file. */
  readonly #holders = { name: new Map<string, string>(), file: new Map<string, string>() }

  constructor(kind: Kind<R>) {
    this.#kind = kind
  }

  get size(): number {
    return this.#records.size
  }

  list(): R[] {
    return [...this.#records.values()]
  }

  find(id: string): R | undefined {
    return this.#records.get(id)
  }

  findByName(name: string): R | undefined {
    const id = this.#holders.name.get(name)
    return id === undefined ? undefined : this.#records.get(id)
  }

  /** Takes a record into a set that is being read; says why when it may not be. A start spends its time here. */
  add(record: unknown): { readonly fault: string } | undefined {
    if (!this.#kind.has(record)) return { fault: `${keyedRecords.has(record) ? `volume ${record.id}: ` : ''}${this.#kind.fault(record)}` }
    if (this.#records.has(record.id)) return { fault: `volume ${record.id}: appears twice` }
    for (const key of uniqueKeys) {
      if (this.#holders[key].has(record[key])) return twinFault(record, key)
    }
    for (const key of uniqueKeys) this.#holders[key].set(record[key], record.id)
    this.#records.set(record.id, record)
    return undefined
  }

  /** Says why the records may not become so, or returns the changes with their types. */
  check(changes: RecordChanges<unknown>): { readonly fault: string } | { readonly changes: RecordChanges<R> } {
    const checked = new Map<string, R | undefined>()
    for (const [id, record] of changes) {
      if (record !== undefined && !this.#kind.has(record)) return { fault: `volume ${id}: ${this.#kind.fault(record)}` }
      if (record !== undefined && record.id !== id) return { fault: `volume ${id}: its record has the id ${record.id}` }
      checked.set(id, record)
    }
    for (const key of uniqueKeys) {
      const twin = this.#findTwin(key, checked)
      if (twin !== undefined) return twinFault(twin, key)
    }
    return { changes: checked }
  }

  /** Takes over changes that `check` returned, with no other change since. */
  apply(changes: RecordChanges<R>): void {
    for (const key of uniqueKeys) {
      for (const id of changes.keys()) {
        const before = this.#records.get(id)
        if (before !== undefined) this.#holders[key].delete(before[key])
      }
      for (const [id, record] of changes) if (record !== undefined) this.#holders[key].set(record[key], id)
    }
    for (const [id, record] of changes) {
      if (record === undefined) this.#records.delete(id)
      else this.#records.set(id, record)
    }
  }

  /** A changed record whose key another record would have as well. Two records may swap theirs in one change. */
  #findTwin(key: (typeof uniqueKeys)[number], changes: RecordChanges<R>): R | undefined {
    const taken = new Set<string>()
    for (const [id, record] of changes) {
      if (record === undefined) continue
      const holder = this.#holders[key].get(record[key])
      const isHeld = holder !== undefined && holder !== id && !changes.has(holder)
      if (isHeld || taken.has(record[key])) return record
      taken.add(record[key])
    }
    return undefined
  }
}

function twinFault(record: KeyedRecord, key: (typeof uniqueKeys)[number]): { readonly fault: string } {
  return { fault: `volume ${record.id}: another volume has the ${key} ${record[key]}` }
}
