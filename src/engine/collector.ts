/**
 * Collecting: the rows of inodes without names are removed once nobody holds them.
 * Keeps: many small ones share a transaction, a large one takes several, and each leaves a consistent volume.
 * Leaves: who holds an inode to the caller, the marks of table `orphans` to inodes.ts.
 */
import type { Ino } from '../base/index.ts'
import type { Content } from './content.ts'
import { stepSize } from './extents.ts'
import type { Inodes } from './inodes.ts'
import type { Transactions } from './transactions.ts'
import type { Xattrs } from './xattrs.ts'

/** What is collected, and how it is made whole or nothing. */
interface CollectorParts {
  readonly transactions: Transactions
  readonly inodes: Inodes
  readonly content: Content
  readonly xattrs: Xattrs
}

export class Collector {
  readonly #parts: CollectorParts

  constructor(parts: CollectorParts) {
    this.#parts = parts
  }

  /** The inodes without names that are not collected. */
  orphans(): Ino[] {
    return this.#parts.transactions.reading(() => this.#parts.inodes.orphans())
  }

  /** Removes all that is left of inodes without names; of others, nothing. */
  collect(inos: readonly Ino[]): void {
    const { transactions, inodes } = this.#parts
    const waiting = transactions.reading(() => [...new Set(inos)].filter((ino) => inodes.find(ino)?.nlink === 0))
    for (let gone = 0; gone < waiting.length;) {
      const first = gone
      gone += transactions.housekeeping(() => this.#collectSome(waiting.slice(first)))
    }
  }

  /** Removes as much as one transaction should; returns how many of the inodes are gone. */
  #collectSome(inos: readonly Ino[]): number {
    const { inodes, content, xattrs } = this.#parts
    let rows = 0
    for (const [index, ino] of inos.entries()) {
      if (rows >= stepSize) return index
      const removed = content.removeSome(ino)
      if (removed === stepSize) return index
      xattrs.deleteAll(ino)
      inodes.delete(ino)
      rows += removed + 1
    }
    return inos.length
  }
}
