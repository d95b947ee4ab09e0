/**
 * The volume store as a journal: a snapshot of the records, and one line for each change since.
 * Keeps: when `transact` returns its change is on the disk, when it throws nothing is changed; memory and disk say the same; one
 *   manager at a time has the store (a lock file beside it).
 * Leaves: bytes to journal.ts and journal-file.ts, what records may be to record-set.ts, their meaning to volume-manager.ts.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ErrnoError, type Logger } from '../base/index.ts'
import { makeFolderDurably } from './atomic-file.ts'
import { FileLock } from './file-lock.ts'
import { firstStoreDamaged, firstStoreName, keepFirstStore, readFirstStore } from './first-store.ts'
import { decodeJournal, encodeChange, encodeSnapshot, type Journal, type JournalHeader } from './journal.ts'
import { JournalFile } from './journal-file.ts'
import { describeMigrations, migrate, migrations, type Migration } from './migrations.ts'
import { collect, diffRecords, replay } from './replay.ts'
import type { VolumeRecord } from './record.ts'
import type { RecordSet } from './record-set.ts'
import { StoreDraft } from './store-draft.ts'
import type { StoreAction, VolumeStore } from './store.ts'

/** The name of the file in the data root. */
export const storeFileName = 'volumes.jsonl'

export interface JournalStoreOptions {
  /** How many changes the file gathers before it is compacted; default: as many as there are records, but 1000 at least. */
  readonly compactAfter?: number
  /** Default: those of this version. */
  readonly migrations?: readonly Migration[]
}

/** Reading a record costs 7 µs of CPU, replaying a change 17 µs (Node 24, docs/performance.md): as many changes as records make 0.24 s for
 *  10,000 volumes, where 0.07 s would be the least, 1000 changes 17 ms; and over time a change pays for writing one record anew. */
const leastCompactAfter = 1000

/** A store's content and where its file stands. */
interface Loaded {
  readonly file: JournalFile
  readonly records: RecordSet<VolumeRecord>
  readonly header: JournalHeader
  readonly changes: number
}

export class JournalStore implements VolumeStore {
  readonly #path: string
  readonly #lock: FileLock
  readonly #log: Logger
  readonly #compactAfter: number | undefined
  readonly #file: JournalFile
  readonly #records: RecordSet<VolumeRecord>
  /** Of the snapshot that the file begins with. */
  #header: JournalHeader
  /** Changes in the file, and how many there may be before the next compaction. */
  #changes: number
  #bound: number
  /** Without the lock another manager may have the file. */
  #isOpen = true

  private constructor(path: string, lock: FileLock, log: Logger, loaded: Loaded, { compactAfter }: JournalStoreOptions) {
    this.#path = path
    this.#lock = lock
    this.#log = log
    this.#compactAfter = compactAfter
    this.#file = loaded.file
    this.#records = loaded.records
    this.#header = loaded.header
    this.#changes = loaded.changes
    this.#bound = this.#computeBound()
  }

  /** Opens the store of a data root, which is made if need be; takes over one of the first version, and mends a torn last line.
   *  Throws EBUSY when another manager has it, EIO `store_damaged`, `newer_format`, ENOSPC. */
  static open(dataRoot: string, log: Logger, options: JournalStoreOptions = {}): JournalStore {
    makeFolderDurably(dataRoot)
    const lock = FileLock.acquire(join(dataRoot, 'manager.lock'))
    try {
      const path = join(dataRoot, storeFileName)
      const loaded = load(path, join(dataRoot, firstStoreName), options.migrations ?? migrations, log)
      return new JournalStore(path, lock, log, loaded, options)
    } catch (error) {
      lock.release()
      throw error
    }
  }

  list(): readonly VolumeRecord[] {
    return this.#records.list()
  }

  find(id: string): VolumeRecord | undefined {
    return this.#records.find(id)
  }

  findByName(name: string): VolumeRecord | undefined {
    return this.#records.findByName(name)
  }

  transact<T>({ who, action }: StoreAction, change: (draft: StoreDraft) => T): T {
    if (!this.#isOpen) throw new ErrnoError('EAGAIN', `store ${this.#path}: is closed`, { problem: 'stopping' })
    const draft = new StoreDraft(this.#records)
    const result = change(draft)
    const checked = this.#records.check(draft.changes)
    if ('fault' in checked) throw new ErrnoError('EINVAL', `store ${this.#path}: ${checked.fault}`)
    const before = new Map([...draft.changes.keys()].map((id) => [id, this.#records.find(id)]))
    const patch = diffRecords(before, draft.changes)
    if (patch.length === 0) return result
    const seq = this.#header.seq + this.#changes + 1
    this.#file.append(encodeChange({ seq, at: new Date().toISOString(), who, action, patch }))
    this.#records.apply(checked.changes)
    this.#changes += 1
    if (this.#changes >= this.#bound) this.#compact()
    return result
  }

  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#file.close()
    this.#lock.release()
  }

  /** The change that led here is on the disk already: a compaction that fails is tried again later. */
  #compact(): void {
    const { schema, generation, seq } = this.#header
    const header = { schema, generation: generation + 1, at: new Date().toISOString(), why: 'compaction', seq: seq + this.#changes }
    try {
      this.#file.replace(encodeSnapshot(header, this.#records.list()))
      this.#header = header
      this.#changes = 0
    } catch (error) {
      this.#log.warn({ err: error, file: this.#path }, 'the store could not be compacted')
    }
    this.#bound = this.#changes + this.#computeBound()
  }

  #computeBound(): number {
    return this.#compactAfter ?? Math.max(leastCompactAfter, this.#records.size)
  }
}

function load(path: string, firstPath: string, list: readonly Migration[], log: Logger): Loaded {
  const loaded = existsSync(path) ? loadJournal(path, list, log) : create(path, firstPath, list)
  try {
    keepFirstStore(firstPath)
  } catch (error) {
    loaded.file.close()
    throw error
  }
  return loaded
}

function loadJournal(path: string, list: readonly Migration[], log: Logger): Loaded {
  const journal = decodeJournal(path, readFileSync(path))
  const records = replay(path, journal, list)
  const file = JournalFile.open(path, journal.length)
  if (journal.torn !== undefined) {
    log.warn({ file: path, line: journal.torn.number, byte: journal.torn.offset, bytes: journal.torn.bytes }, 'a torn last line of the store, a change that was not confirmed to anybody, was cut off') // prettier-ignore
  }
  if (journal.header.schema === list.length) return { file, records, header: journal.header, changes: journal.changes.length }
  try {
    return upgrade(file, journal, records, list)
  } catch (error) {
    file.close()
    throw error
  }
}

/** Writes migrated records as the next generation. */
function upgrade(file: JournalFile, { header, changes }: Journal, records: RecordSet<VolumeRecord>, list: readonly Migration[]): Loaded {
  const next = {
    ...firstHeader(list, describeMigrations(header.schema, list)),
    generation: header.generation + 1,
    seq: header.seq + changes.length,
  }
  file.replace(encodeSnapshot(next, records.list()))
  return { file, records, header: next, changes: 0 }
}

/** A new store: that of the first version if there is one, otherwise an empty one. */
function create(path: string, firstPath: string, list: readonly Migration[]): Loaded {
  const isTakenOver = existsSync(firstPath)
  const old = isTakenOver ? readFirstStore(firstPath) : []
  const records = collect(old.map((record) => migrate(record, 0, list)), (fault) => firstStoreDamaged(firstPath, fault)) // prettier-ignore
  const header = firstHeader(list, isTakenOver ? describeMigrations(0, list) : 'new store')
  return { file: JournalFile.create(path, encodeSnapshot(header, records.list())), records, header, changes: 0 }
}

function firstHeader(list: readonly Migration[], why: string): JournalHeader {
  return { schema: list.length, generation: 1, at: new Date().toISOString(), why, seq: 0 }
}
