/**
 * How long the -wal file is. It grows by zeros in pieces of 64 KiB, ahead of SQLite, which adds to it frame by frame, 24 bytes and a page.
 * For ext4 each of those is a new page of its cache: measured, 5 µs a frame instead of 3. SQLite ends a WAL at the first frame that is none.
 * Who syncs often gets none: the disk would have to take the zeros as well; instead, what a large write has left behind is cut off when the
 * WAL starts anew, down to what is worth keeping for a while.
 * Keeps: what SQLite has written is never touched: zeros go behind the end of the file only, between two transactions of the one who
 *   writes. That a checkpoint empties the file at that moment leaves a hole in front of them, which is no frame either.
 * Leaves: what it fails with to SQLite, which meets the same when it writes.
 */
import { fstatSync, writeSync } from 'node:fs'
import { prepareCheckpoint, type CheckpointAnswer } from './checkpoint.ts'
import type { Connection } from './connection.ts'
import { readPragma, runPragma } from './pragmas.ts'
import type { WalSync } from './wal-sync.ts'

/** Larger pieces make larger folios of the page cache, in which ext4 finds a frame's place more slowly. */
const pieceBytes = 64 << 10

/** What a transaction adds besides its content: some pages of the tables. */
const overheadFrames = 8

/** So many bytes must have been written since the last sync. */
const leastUnsynced = 1 << 20

/** Room is made for so much more than is asked for, and counted on for so much at most: then the WAL may have been emptied. */
const mostSpare = 128 << 10

/** A WAL that is no longer is worth keeping (mount/checkpointing.ts). */
export const keptWalBytes = 128 << 20

/** After so many syncs in turn with little before each, somebody syncs often. */
const oftenSyncs = 100

const zeros = Buffer.alloc(pieceBytes)

export class WalGrowth {
  readonly #wal: WalSync
  readonly #connection: Connection
  readonly #frameBytes: number
  readonly #look: () => CheckpointAnswer
  /** Bytes that are there, as far as is known, for the transactions to come. */
  #spare = 0
  /** Bytes written since the last sync, about. */
  #unsynced = 0
  /** Syncs in turn with little before each. */
  #smallSyncs = 0

  /** `wal` has the file open. */
  constructor(wal: WalSync, connection: Connection) {
    this.#wal = wal
    this.#connection = connection
    this.#frameBytes = readPragma(connection, 'page_size') + 24
    this.#look = prepareCheckpoint(connection, 'NOOP')
  }

  /** Has the file reach as far as a transaction will that adds `bytes` of content. Call just before it begins. */
  prepare(bytes: number): void {
    const need = overheadFrames * this.#frameBytes + bytes + bytes / 16
    this.#spare -= need
    this.#unsynced += need
    if (this.#unsynced < leastUnsynced) return
    if (this.#smallSyncs >= oftenSyncs) this.#setLimit(-1)
    this.#smallSyncs = 0
    if (this.#spare >= 0) return
    try {
      this.#spare = Math.min(this.#grow(this.#wal.descriptor(), need), need + mostSpare) - need
    } catch {
      this.#spare = 0 // as said above
    }
  }

  /** All that was written is on the disk. */
  synced(): void {
    this.#unsynced = 0
    if (++this.#smallSyncs === oftenSyncs) this.#setLimit(keptWalBytes)
  }

  /** How many bytes of the file SQLite leaves when the WAL starts anew; -1: all. https://www.sqlite.org/pragma.html#pragma_journal_size_limit */
  #setLimit(bytes: number): void {
    runPragma(this.#connection, `journal_size_limit = ${String(bytes)}`)
  }

  /** Returns how many bytes there are then behind the last frame. */
  #grow(descriptor: number, need: number): number {
    const position = this.#look().frames * this.#frameBytes
    let end = fstatSync(descriptor).size
    if (end >= position + need) return end - position
    while (end < position + need + mostSpare) end += writeSync(descriptor, zeros, 0, pieceBytes - (end % pieceBytes), end)
    return end - position
  }
}
