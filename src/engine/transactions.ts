/**
 * Transactions: how a change of the volume becomes whole or nothing (promise 6).
 * Keeps: after an exception nothing of the change is in the file nor in a cache; a full disk is tried once more after the
 *   WAL's space was given back.
 * Leaves: what is changed to volume.ts; when the WAL reaches the disk to `sync` there.
 */
import { ErrnoError } from '../base/index.ts'
import { translateError, type Connection, type Statement } from './connection.ts'
import type { Space } from './space.ts'
import type { State } from './state.ts'
import type { WalGrowth } from './wal-growth.ts'
import type { WriteGate } from './write-gate.ts'

/** Something that caches rows, and must forget them when their transaction is rolled back. */
export interface Cache {
  rolledBack(): void
}

/** What transactions are made of. */
export interface TransactionParts {
  /** For messages. */
  readonly file: string
  readonly connection: Connection
  readonly state: State
  readonly space: Space
  readonly caches: readonly Cache[]
  readonly gate: WriteGate
  readonly walGrowth: WalGrowth
  /** Called when all of a transaction but its commit is done. */
  readonly beforeCommit: (() => void) | undefined
}

export class Transactions {
  readonly #file: string
  readonly #connection: Connection
  readonly #state: State
  readonly #space: Space
  readonly #caches: readonly Cache[]
  readonly #gate: WriteGate
  readonly #walGrowth: WalGrowth
  readonly #beforeCommit: (() => void) | undefined
  readonly #begin: Statement<[]>
  readonly #commit: Statement<[]>
  readonly #rollback: Statement<[]>

  constructor({ file, connection, state, space, caches, gate, walGrowth, beforeCommit }: TransactionParts) {
    this.#file = file
    this.#connection = connection
    this.#state = state
    this.#space = space
    this.#caches = caches
    this.#gate = gate
    this.#walGrowth = walGrowth
    this.#beforeCommit = beforeCommit
    this.#begin = connection.prepare('BEGIN IMMEDIATE')
    this.#commit = connection.prepare('COMMIT')
    this.#rollback = connection.prepare('ROLLBACK')
  }

  /** Runs `work`, which only reads. Errors of SQLite become ours. */
  reading<T>(work: () => T): T {
    try {
      return work()
    } catch (error) {
      throw translateError(this.#file, error)
    }
  }

  /** One transaction that adds `bytes` and whose change a user can see. Throws ENOSPC on a disk that is as good as full. */
  adding<T>(bytes: number, work: () => T): T {
    this.reading(() => {
      this.#space.take(bytes)
    })
    return this.#run(work, true, bytes)
  }

  /** One transaction whose change a user can see. */
  changing<T>(work: () => T): T {
    return this.#run(work, true)
  }

  /** One transaction that no user can see: it moves the name of the bytes, not the change token. */
  housekeeping<T>(work: () => T): T {
    return this.#run(work, false)
  }

  #run<T>(work: () => T, isVisible: boolean, bytes = 0): T {
    try {
      return this.#attempt(work, isVisible, bytes)
    } catch (error) {
      if (!(error instanceof ErrnoError) || error.code !== 'ENOSPC') throw error
      this.#space.reclaim()
      return this.#attempt(work, isVisible, bytes)
    }
  }

  #attempt<T>(work: () => T, isVisible: boolean, bytes: number): T {
    this.#gate.pass()
    try {
      if (!this.#space.isScarce()) this.#walGrowth.prepare(bytes)
      this.#begin.run()
      const result = work()
      this.#state.advance(isVisible)
      this.#beforeCommit?.()
      this.#commit.run()
      this.#state.committed()
      return result
    } catch (error) {
      this.#undo()
      throw translateError(this.#file, error)
    }
  }

  /** Ends a failed transaction; some errors (SQLITE_FULL) have ended it already. */
  #undo(): void {
    this.#state.rolledBack()
    for (const cache of this.#caches) cache.rolledBack()
    if (this.#connection.inTransaction) this.#rollback.run()
  }
}
