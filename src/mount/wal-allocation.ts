/**
 * Disk space for the WAL ahead of large writes. ext4 looks for a file's blocks only when it writes its pages back, and whoever adds to that
 * file waits meanwhile, for the disk itself where the maps of free blocks have to be read: 456 MiB/s without this, 527 with it
 * (docs/performance.md).
 * Keeps: no byte of the file changes, nor its length: the blocks lie behind its end (FALLOC_FL_KEEP_SIZE of fallocate(2)) and are given
 *   back when it is cut off. Nobody waits for it, and what it fails with nobody is told: then blocks are found as they are needed.
 * Leaves: whether the disk has so much room to checkpointing.ts.
 */
import { spawn } from 'node:child_process'
import { closeSync, fstatSync, openSync, statfsSync } from 'node:fs'

/** EXT4_SUPER_MAGIC of statfs(2). Others are left alone: XFS does so by itself, and on tmpfs it would take memory. */
export const ext4 = 0xef53

/** st_blocks of stat(2) counts in these. */
const sectorBytes = 512

/** Less room than this behind what is written is little. */
const littleBytes = 64 << 20

export class WalAllocation {
  readonly #wal: string
  /** It is under way, or makes no sense here. */
  #isHeld = false

  /** `wal` is the path of a -wal file. */
  constructor(wal: string) {
    this.#wal = wal
  }

  /** Has the disk find room for the first `bytes` of the file, unless there is enough behind its end. Throws what opening it does. */
  extend(bytes: number): void {
    if (this.#isHeld) return
    const descriptor = openSync(this.#wal, 'r') // SQLite takes no lock on it that closing could drop
    try {
      const { size, blocks } = fstatSync(descriptor)
      if (size >= bytes || blocks * sectorBytes >= Math.min(bytes, size + littleBytes)) return
      this.#isHeld = true
      if (statfsSync(this.#wal).type === ext4) this.#allocate(descriptor, size, bytes - size)
    } finally {
      closeSync(descriptor)
    }
  }

  /** By descriptor: fallocate(1) would make a file of that name where the volume is closed meanwhile. */
  #allocate(descriptor: number, offset: number, length: number): void {
    const range = ['--keep-size', '--offset', String(offset), '--length', String(length)]
    const child = spawn('fallocate', [...range, '/proc/self/fd/3'], { stdio: ['ignore', 'ignore', 'ignore', descriptor] })
    child.once('error', () => undefined) // there is none: not tried again
    child.once('exit', (code) => {
      this.#isHeld = code !== 0
    })
  }
}
