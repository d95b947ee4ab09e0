/**
 * A lock that one process at a time can have, on a file of its own.
 * Keeps: it dies with its process, all threads of it; taking it starts no process and waits for nobody. It is SQLite's lock of an exclusive
 *   transaction, fcntl(2), which Node cannot ask for by itself.
 * Leaves: what it protects to its holder. The volume file's own lock, which processes hand on, is owner.ts.
 */
import Database from 'better-sqlite3'
import { ErrnoError } from '../base/index.ts'
import { translateError, type Connection } from './connection.ts'

export class ProcessLock {
  readonly #file: string
  readonly #connection: Connection

  /** Opens `file`, or makes it: it stays empty. Nobody else may open it, nor this process once more: closing it there would drop the lock. */
  constructor(file: string) {
    this.#file = file
    this.#connection = new Database(file, { timeout: 0 })
  }

  /** Takes the lock, until this process ends. Throws EBUSY when another process has it. */
  take(): void {
    try {
      this.#connection.exec('BEGIN EXCLUSIVE')
    } catch (error) {
      const translated = translateError(this.#file, error)
      if (!(translated instanceof ErrnoError) || translated.code !== 'EBUSY') throw translated
      throw new ErrnoError('EBUSY', `lock ${this.#file}: another process has it`, { cause: error, problem: 'held' })
    }
  }
}
