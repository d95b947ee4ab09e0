/**
 * The records inside a transaction: what it has changed so far, over the records of before.
 * Keeps: the records of before stay as they are; a change costs what it touches, however many records there are.
 * Leaves: whether the result is allowed to record-set.ts.
 */
import { ErrnoError } from '../base/index.ts'
import type { VolumeRecord } from './record.ts'
import type { RecordChanges, RecordSet } from './record-set.ts'
import type { StoreDraft as Draft } from './store.ts'

export class StoreDraft implements Draft {
  readonly #before: RecordSet<VolumeRecord>
  readonly #changes = new Map<string, VolumeRecord | undefined>()

  constructor(before: RecordSet<VolumeRecord>) {
    this.#before = before
  }

  get changes(): RecordChanges<VolumeRecord> {
    return this.#changes
  }

  find(id: string): VolumeRecord | undefined {
    return this.#changes.has(id) ? this.#changes.get(id) : this.#before.find(id)
  }

  findByName(name: string): VolumeRecord | undefined {
    const before = this.#before.findByName(name)
    if (before !== undefined && !this.#changes.has(before.id)) return before
    return [...this.#changes.values()].find((record) => record?.name === name)
  }

  insert(record: VolumeRecord): void {
    if (this.find(record.id) !== undefined) throw new ErrnoError('EEXIST', `volume ${record.id}: is in the store already`)
    this.#changes.set(record.id, record)
  }

  update(id: string, change: Partial<Omit<VolumeRecord, 'id'>>): void {
    this.#changes.set(id, { ...this.#get(id), ...change })
  }

  remove(id: string): void {
    this.#get(id)
    this.#changes.set(id, undefined)
  }

  #get(id: string): VolumeRecord {
    const record = this.find(id)
    if (record === undefined) throw new ErrnoError('ENOENT', `volume ${id}: not in the store`)
    return record
  }
}
