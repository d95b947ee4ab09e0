/**
 * How often the kernel has been told of each inode (nlookup of linux/fuse.h).
 * Keeps: an inode is known as long as the kernel may ask for it by number. What a predecessor has told it died with him: an inode
 *   of his counts as known until a forget says as much as was told since, or more, for the kernel drops an inode with all its
 *   references at once (fuse_evict_inode of fs/fuse/inode.c), until the kernel was asked and knows nothing of it (a drop of 0), or
 *   until the mount ends.
 * Leaves: collecting forgotten orphans to the filesystem, which keeps those with open handles: the kernel also gives back single
 *   references, of a name that led elsewhere meanwhile (fuse_dentry_revalidate).
 */
import type { Ino } from '../base/index.ts'
import { SmallCounts } from './small-counts.ts'

export class LookupCounts {
  readonly #counts = new SmallCounts<Ino>()
  /** Inodes below this number may have been told of by a predecessor. */
  readonly #inheritedBelow: number
  /** Those of them that the kernel is known to have dropped. */
  readonly #dropped = new Set<Ino>()

  /** `inheritedBelow` is 0 where there was no predecessor. */
  constructor(inheritedBelow: number) {
    this.#inheritedBelow = inheritedBelow
  }

  /** The kernel is told of the inode once more. */
  add(ino: Ino): void {
    this.#counts.set(ino, this.#counts.get(ino) + 1)
  }

  /** The kernel drops `nlookup` of its references; returns whether none is left, as far as can be known. */
  drop(ino: Ino, nlookup: number): boolean {
    const left = Math.max(0, this.#counts.get(ino) - nlookup)
    this.#counts.set(ino, left)
    if (left > 0) return false
    if (ino < this.#inheritedBelow) this.#dropped.add(ino)
    return true
  }

  /** Whether the kernel may still ask for the inode. */
  has(ino: Ino): boolean {
    return this.#counts.get(ino) > 0 || this.#isInherited(ino)
  }

  #isInherited(ino: Ino): boolean {
    return ino < this.#inheritedBelow && !this.#dropped.has(ino)
  }
}
