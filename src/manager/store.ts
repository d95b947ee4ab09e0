/**
 * The store of volume records: what a manager knows of its volumes between two runs.
 * Keeps: a change is one transaction with an author and an action, on the disk before `transact` returns.
 * Leaves: how it lies on the disk to its implementation: json-store.ts now, a journal later.
 */

import type { DriverName } from '../base/index.ts'

/** How a volume is mounted again. */
export interface PersistentMount {
  readonly readOnly: boolean
  /** Absent: whichever driver is configured then. */
  readonly driver?: DriverName
}

/** One volume of this manager. */
export interface VolumeRecord {
  /** UUIDv7 in its text form. */
  readonly id: string
  /** Unique among all records. */
  readonly name: string
  /** Name of the volume file in DATA_ROOT/volumes. */
  readonly file: string
  /** RFC 3339, UTC. */
  readonly createdAt: string
  readonly encrypted: boolean
  /** Mounted again at the start of the manager, and how; null: not. */
  readonly persist: PersistentMount | null
}

/** Who changes the store, and why: a journal's line says so. */
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
  /** Runs `change`; when it throws nothing is changed, when this returns all of it is on the disk. */
  transact<T>(action: StoreAction, change: (draft: StoreDraft) => T): T
  close(): void
}
