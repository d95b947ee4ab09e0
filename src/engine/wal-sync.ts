/**
 * How commits reach the disk: fdatasync(2) of the WAL.
 * Keeps: `sync` returns when everything committed so far survives power loss, or throws; what is on the disk already is not synced
 *   again; after a failure every sync fails (lost-sync.ts).
 * Leaves: committing to transactions.ts, checkpoints, which sync the WAL too, to maintenance.ts.
 */
import { closeSync, existsSync, fdatasyncSync, fsyncSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { ErrnoError } from '../base/index.ts'
import { lostSyncError, type LostSync } from './lost-sync.ts'

export class WalSync {
  readonly #file: string
  readonly #lostSync: LostSync
  /** The -wal file, open from its first use on. SQLite takes no POSIX lock on it, so closing it drops none. */
  #wal: number | undefined
  /** The number of commits when it was last synced. */
  #synced: number | undefined

  constructor(file: string, lostSync: LostSync) {
    this.#file = file
    this.#lostSync = lostSync
  }

  /** `commits` is the number of the last commit. Throws EIO. */
  sync(commits: number): void {
    if (this.#lostSync.isSet) throw lostSyncError(this.#file)
    if (commits === this.#synced) return
    try {
      fdatasyncSync(this.descriptor())
    } catch (error) {
      this.#lostSync.set()
      throw lostSyncError(this.#file, error)
    }
    this.#synced = commits
  }

  /** The -wal file, open for writing as long as this is; its name is on the disk. */
  descriptor(): number {
    return (this.#wal ??= this.#open())
  }

  close(): void {
    if (this.#wal !== undefined) closeSync(this.#wal)
    this.#wal = undefined
  }

  /** Opens the -wal and makes its name durable too: SQLite itself would sync the directory only with its first own sync. */
  #open(): number {
    const file = `${this.#file}-wal`
    if (!existsSync(file)) throw new ErrnoError('EIO', `volume file ${this.#file}: its -wal is gone while it is open`)
    const directory = openSync(dirname(file), 'r')
    fsyncSync(directory)
    closeSync(directory)
    return openSync(file, 'r+')
  }
}
