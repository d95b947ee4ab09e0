/**
 * The store of volume records: what a manager knows of its volumes between two runs.
 * Keeps: a change is one transaction with an author and an action, on the disk before `transact` returns.
 * Leaves: how it lies on the disk to its implementation (journal-store.ts), what a record is to record.ts.
 */
import type { VolumeRecord } from './record.ts'

/** Who changes the store, and why: its line in the journal says so. */
export interface StoreAction {
  /** `http`, `manager`. */
  readonly who: string
  /** `create volume photos`. */
  readonly action: string
}

/** The records inside a transaction. */
export interface StoreDraft {
  find(id: string): VolumeRecord | undefined
  findByName(name: string): VolumeRecord | undefined
  /** Throws EEXIST when there is a record with that id. */
  insert(record: VolumeRecord): void
  /** Throws ENOENT when there is no such record. */
  update(id: string, change: Partial<Omit<VolumeRecord, 'id'>>): void
  /** Throws ENOENT when there is no such record. */
  remove(id: string): void
}

export interface VolumeStore {
  /** All records, oldest first. */
  list(): readonly VolumeRecord[]
  find(id: string): VolumeRecord | undefined
  findByName(name: string): VolumeRecord | undefined
  /** Runs `change`; when it throws nothing is changed, when this returns all of it is on the disk.
   *  Throws ENOSPC, EDQUOT, EIO when it cannot be written: nothing is changed then, and the store can go on. */
  transact<T>(action: StoreAction, change: (draft: StoreDraft) => T): T
  close(): void
}
