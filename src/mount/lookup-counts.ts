/**
 * How often the kernel has been told of each inode (nlookup of linux/fuse.h).
 * Keeps: an inode is known as long as the kernel may ask for it by number. Leaves: collecting forgotten orphans to the filesystem.
 */
import type { Ino } from '../base/index.ts'

export class LookupCounts {
  readonly #counts = new Map<Ino, number>()

  /** The kernel is told of the inode once more. */
  add(ino: Ino): void {
    this.#counts.set(ino, (this.#counts.get(ino) ?? 0) + 1)
  }

  /** The kernel drops `nlookup` of its references; returns whether none is left. */
  drop(ino: Ino, nlookup: number): boolean {
    const left = (this.#counts.get(ino) ?? 0) - nlookup
    if (left > 0) this.#counts.set(ino, left)
    else this.#counts.delete(ino)
    return left <= 0
  }

  /** Whether the kernel may still ask for the inode. */
  has(ino: Ino): boolean {
    return this.#counts.has(ino)
  }
}
