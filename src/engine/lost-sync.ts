/**
 * Whether a sync of the WAL has failed. The kernel reports lost pages once and then takes them for written
 * (https://wiki.postgresql.org/wiki/Fsync_Errors): a later sync that succeeds would promise what is not there.
 * Keeps: whoever syncs the WAL tells, and asks before it promises. Leaves: how threads and processes share it to the caller.
 */
import Database from 'better-sqlite3'
import { ErrnoError } from '../base/index.ts'
import type { Connection } from './connection.ts'

export interface LostSync {
  readonly isSet: boolean
  /** A sync has failed: from now on none may succeed, until the volume is mounted anew. */
  set(): void
}

/** One for a single connection. */
export function ownLostSync(): LostSync {
  let isSet = false
  return {
    get isSet() {
      return isSet
    },
    set() {
      isSet = true
    },
  }
}

/** Modes of https://www.sqlite.org/pragma.html#pragma_wal_checkpoint */
export type CheckpointMode = 'NOOP' | 'PASSIVE' | 'RESTART' | 'TRUNCATE'

/** One checkpoint; returns SQLite's row. It syncs the WAL first: when that fails nobody else is told of the lost pages (SQLite does not say which file it was). */
export function checkpoint(connection: Connection, mode: CheckpointMode, lostSync: LostSync): unknown {
  try {
    return connection.pragma(`wal_checkpoint(${mode})`)
  } catch (error) {
    if (error instanceof Database.SqliteError && error.code === 'SQLITE_IOERR_FSYNC') lostSync.set()
    throw error
  }
}

/** What a sync answers that failed, or that comes after one that did. */
export function lostSyncError(file: string, cause?: unknown): ErrnoError {
  const hint = 'mount the volume anew when the disk works again'
  return new ErrnoError('EIO', `volume file ${file}: its WAL could not be synced`, { hint, cause })
}
