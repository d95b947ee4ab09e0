/**
 * Room on the disk: what adds data is refused while there is still enough left to delete, to checkpoint and to close.
 * Keeps: on a full disk a volume can be read, emptied and unmounted. Without it the WAL takes the last byte, the checkpoint
 *   that would give it back cannot grow the file, and even unlink fails.
 * Leaves: errors of a disk that fills by other hands to SQLite (SQLITE_FULL becomes ENOSPC, the transaction is rolled back).
 */
import { statSync, statfsSync } from 'node:fs'
import { dirname } from 'node:path'
import { ErrnoError } from '../base/index.ts'
import { prepareCheckpoint, type CheckpointAnswer } from './checkpoint.ts'
import { withBusyTimeout, type Connection } from './connection.ts'
import type { LostSync } from './lost-sync.ts'
import { preparePragma, readPragma } from './pragmas.ts'

/** Bytes that only deleting may use: the WAL frames of some 500 unlinks between two checkpoints. */
const reserve = 16 << 20

/** Less than this many bytes is little room. */
const scarce = 64 << 20

/** What any operation adds to the WAL besides its own bytes: some pages of the tables. */
const overhead = 128 << 10

/** How long a look at the disk counts, in ms: others use it too. */
const refreshMs = 1000

/** How long the checkpoint of another connection may keep us from ours, and how often that is looked at, in ms. */
const otherCheckpointMs = 5000
const pollMs = 5

/** statfs(2) of the disk, and what of it the volume may still take. */
export interface DiskRoom {
  readonly blockSize: number
  readonly blocks: number
  readonly blocksFree: number
  /** For new content, free pages inside the file included. */
  readonly blocksAvailable: number
}

export class Space {
  readonly #file: string
  readonly #connection: Connection
  readonly #truncateWal: () => CheckpointAnswer
  readonly #pageSize: number
  readonly #pageCount: () => number
  readonly #freelistCount: () => number
  #budget = 0
  #refreshedAt = 0

  constructor(file: string, connection: Connection, lostSync: LostSync) {
    this.#file = file
    this.#connection = connection
    this.#truncateWal = prepareCheckpoint(connection, 'TRUNCATE', lostSync)
    this.#pageSize = readPragma(connection, 'page_size')
    this.#pageCount = preparePragma(connection, 'page_count')
    this.#freelistCount = preparePragma(connection, 'freelist_count')
  }

  /** Claims room for an operation that adds `bytes`. Call outside transactions. Throws ENOSPC. */
  take(bytes: number): void {
    const cost = 2 * bytes + overhead // in the WAL, then in the file
    if (cost > this.#budget || Date.now() - this.#refreshedAt > refreshMs) this.#refresh()
    if (cost > this.#budget) {
      this.reclaim()
      this.#refresh()
    }
    if (cost > this.#budget) throw new ErrnoError('ENOSPC', `volume file ${this.#file}: the disk is full`)
    this.#budget -= cost
  }

  /** Whether there is little room. Call outside transactions. */
  isScarce(): boolean {
    if (Date.now() - this.#refreshedAt > refreshMs) this.#refresh()
    return this.#budget < scarce
  }

  /** Throws ENOSPC when the disk has no room for `bytes` more of content. Claims nothing. */
  assertRoom(bytes: number): void {
    const { blockSize, blocksAvailable } = this.room()
    if (bytes <= blockSize * blocksAvailable) return
    throw new ErrnoError('ENOSPC', `volume file ${this.#file}: the disk has no room for ${String(bytes)} bytes`)
  }

  /** Copies the WAL into the file and gives its disk space back, as far as that goes without waiting for anybody but another checkpoint. */
  reclaim(): void {
    const deadline = Date.now() + otherCheckpointMs
    try {
      withBusyTimeout(this.#connection, 0, () => {
        while (isOtherRunning(this.#truncateWal()) && Date.now() < deadline) pause(pollMs)
      })
    } catch {
      // It fails where it is needed most; whoever wanted the room is told so.
    }
  }

  /** The disk as statfs(2) of the volume shows it. */
  room(): DiskRoom {
    const { bsize, blocks, bfree, bavail } = statfsSync(dirname(this.#file))
    const { growth, inside } = this.#pages()
    const available = Math.max(0, bavail * bsize - growth - reserve) + inside
    return { blockSize: bsize, blocks, blocksFree: bfree + Math.floor(inside / bsize), blocksAvailable: Math.floor(available / bsize) }
  }

  #refresh(): void {
    const { growth, inside } = this.#pages()
    // Free pages inside the file need room in the WAL only, so some of the reserve may serve them.
    this.#budget = freeBytes(this.#file) - growth - reserve + Math.min(inside, reserve / 2)
    this.#refreshedAt = Date.now()
  }

  /** Bytes by which a checkpoint will make the file grow, and bytes of free pages inside it. */
  #pages(): { growth: number; inside: number } {
    const growth = Math.max(0, this.#pageCount() * this.#pageSize - statSync(this.#file).size)
    return { growth, inside: this.#freelistCount() * this.#pageSize }
  }
}

/** Bytes that the disk of a file has free. */
export function freeBytes(file: string): number {
  const { bavail, bsize } = statfsSync(dirname(file))
  return bavail * bsize
}

/** Whether a checkpoint could not even begin because another one runs: SQLite then knows no frames. */
function isOtherRunning({ isBusy, frames }: CheckpointAnswer): boolean {
  return isBusy && frames === -1
}

/** Blocks this thread: its caller must not answer before. */
function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)), 0, 0, ms)
}
