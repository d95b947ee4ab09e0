/**
 * One checkpoint of the WAL, sqlite3_wal_checkpoint_v2(), prepared once (why: pragmas.ts).
 * Keeps: that it could not sync the WAL is not forgotten: nobody else is told of the lost pages (lost-sync.ts).
 * Leaves: when to run which to maintenance.ts and space.ts.
 */
import Database from 'better-sqlite3'
import type { Connection } from './connection.ts'
import { ownLostSync, type LostSync } from './lost-sync.ts'
import { integer, type Row } from './rows.ts'

/** Modes of https://www.sqlite.org/pragma.html#pragma_wal_checkpoint */
export type CheckpointMode = 'NOOP' | 'PASSIVE' | 'RESTART' | 'TRUNCATE'

/** What it answers. */
export interface CheckpointAnswer {
  /** It could not do all that its mode asks for. */
  readonly isBusy: boolean
  /** Frames of the WAL, and how many of them are copied; -1 without a WAL, and where another checkpoint runs. After TRUNCATE, 0. */
  readonly frames: number
  readonly framesCheckpointed: number
}

/** Prepares it; returns how to run it, outside of transactions. That throws SqliteError, and tells `lostSync` when the WAL could not be synced. */
export function prepareCheckpoint(
  connection: Connection,
  mode: CheckpointMode,
  lostSync: LostSync = ownLostSync(),
): () => CheckpointAnswer {
  const statement = connection.prepare<[], Row>(`PRAGMA wal_checkpoint(${mode})`).raw(true)
  return () => {
    try {
      const row = statement.get() ?? []
      const number = (at: number, name: string): number => integer(row, at, 'wal_checkpoint', name)
      return { isBusy: number(0, 'busy') !== 0, frames: number(1, 'log'), framesCheckpointed: number(2, 'checkpointed') }
    } catch (error) {
      // SQLite does not say which file it was.
      if (error instanceof Database.SqliteError && error.code === 'SQLITE_IOERR_FSYNC') lostSync.set()
      throw error
    }
  }
}
