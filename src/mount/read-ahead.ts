/**
 * What is read next of a file that is read from front to end: the control thread has the disk bring it, while this one serves what is there.
 * Keeps: nothing is asked for while reading is fast, for then the disk is not waited for; what is asked for is a wish, and changes no answer.
 * Leaves: bringing it to Maintenance.prefetch. The kernel reads ahead as well, but what lies in order in a file of ours need not do so in
 *   the volume file, and SQLite waits for each page of it.
 */
import type { Ino } from '../base/index.ts'

/** Bytes of a file. */
export interface AheadRange {
  readonly ino: Ino
  readonly offset: number
  readonly length: number
}

const MIB = 1 << 20

/** Bytes in a row after which somebody reads from front to end. */
const leastRun = MIB

/** A read that takes longer than this, in ms a MiB, has waited for the disk: from memory it is about 1. */
const slowMs = 2

/** How much is asked for after a slow read, in bytes; how far it may be ahead, and in what steps. */
const credit = 16 * MIB
const window = 4 * MIB
const step = MIB

/** Files that are followed at once. */
const mostFiles = 8

/** Reads of one file, each from where the one before ended. */
interface Run {
  end: number
  length: number
  /** Up to here it was asked for. */
  ahead: number
  credit: number
}

export class ReadAhead {
  /** Oldest first. */
  readonly #runs = new Map<Ino, Run>()
  readonly #ask: (range: AheadRange) => void

  constructor(ask: (range: AheadRange) => void) {
    this.#ask = ask
  }

  /** That much was read, in so many ms. */
  note(ino: Ino, offset: number, length: number, ms: number): void {
    const run = this.#runs.get(ino)
    if (run?.end !== offset) {
      this.#begin(ino, offset + length, length)
      return
    }
    run.end += length
    run.length += length
    if (ms > (slowMs * length) / MIB) run.credit = credit
    if (run.length <= leastRun) return
    run.ahead = Math.max(run.ahead, run.end + step) // the step from `end` on is being asked for by who reads
    while (run.credit > 0 && run.ahead < run.end + window) {
      this.#ask({ ino, offset: run.ahead, length: step })
      run.ahead += step
      run.credit -= step
    }
  }

  #begin(ino: Ino, end: number, length: number): void {
    this.#runs.delete(ino)
    this.#runs.set(ino, { end, length, ahead: 0, credit: 0 })
    const [oldest] = this.#runs.keys()
    if (this.#runs.size > mostFiles && oldest !== undefined) this.#runs.delete(oldest)
  }
}
