/**
 * The requests that predecessors on this FUSE connection have committed last, one for each: none of them may be answered yet.
 * Keeps: a request stays known until all that is sent again is answered. The volume itself names one, but a successor commits others
 *   before it is asked for that one again (a FORGET comes before all that is sent again), and may die then too.
 * Leaves: noting the request in the transaction to engine/state.ts, answering it to fuse/operation-table.ts.
 */
import { closeSync, constants, openSync, readFileSync, truncateSync, writeSync } from 'node:fs'
import type { CommittedRequest } from '../engine/index.ts'

/** In the file, for each: its number and the inode that its answer names, as 64-bit floats. */
const recordBytes = 16

export class Recalls {
  readonly #path: string
  readonly #inos = new Map<number, number>()

  /** `path` names the file that outlives this process; `last`, what the one before has committed last, is added to it. */
  constructor(path: string, last: CommittedRequest | undefined) {
    this.#path = path
    const file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600)
    try {
      const records = readFileSync(file)
      const count = Math.floor(records.length / recordBytes)
      for (let at = 0; at < count * recordBytes; at += recordBytes) this.#inos.set(records.readDoubleLE(at), records.readDoubleLE(at + 8))
      if (last === undefined || this.#inos.has(last.number)) return
      this.#inos.set(last.number, last.ino)
      const record = Buffer.alloc(recordBytes)
      record.writeDoubleLE(last.number, 0)
      record.writeDoubleLE(last.ino, 8)
      writeSync(file, record, 0, recordBytes, count * recordBytes)
    } finally {
      closeSync(file)
    }
  }

  /** When a predecessor has committed that request: the inode that its answer names, or 0. Undefined when none has. */
  find(request: number): number | undefined {
    return this.#inos.get(request)
  }

  /** Whether an answer that may still have to be given names the inode. */
  names(ino: number): boolean {
    return [...this.#inos.values()].includes(ino)
  }

  /** All of them are answered. */
  clear(): void {
    if (this.#inos.size === 0) return
    this.#inos.clear()
    truncateSync(this.#path)
  }
}
