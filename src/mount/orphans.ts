/**
 * Removed inodes: those that the kernel still knows, and those that it has let go of, whose rows are removed many at a time.
 * Keeps: what is let go of is removed at once where it holds much, or where the disk has little room, and at the latest with the
 *   31st after it, when somebody asks for the room, or when the volume is closed or opened again.
 * Leaves: who knows or holds an inode to volume-filesystem.ts.
 */
import type { Ino } from '../base/index.ts'
import type { Volume } from '../engine/index.ts'

/** So many share a transaction: together they change little more of the file than one does. */
const batchSize = 32

/** More content than this, in bytes, does not wait. */
const batchBytes = 1 << 20

export class Orphans {
  readonly #volume: Volume
  readonly #onFault: (error: unknown, ino: Ino) => void
  /** All of them. */
  readonly #inos: Set<Ino>
  /** Those that had a name, as far as is known: linkat(2) gives it to no one of them again. */
  readonly #unlinked = new Set<Ino>()
  /** Those that nobody knows any more. */
  readonly #waiting = new Set<Ino>()
  #waitingBytes = 0

  /** `onFault` is told of an inode that could not be removed; it is tried again with the next ones. */
  constructor(volume: Volume, onFault: (error: unknown, ino: Ino) => void) {
    this.#volume = volume
    this.#onFault = onFault
    this.#inos = new Set(volume.orphans())
  }

  /** Those that are not removed, in no order. */
  list(): Ino[] {
    return [...this.#inos]
  }

  has(ino: Ino): boolean {
    return this.#inos.has(ino)
  }

  /** Whether it can never have a name again; false where that is not known. */
  isUnlinked(ino: Ino): boolean {
    return this.#unlinked.has(ino)
  }

  /** It was made without a name (O_TMPFILE), and may get one. */
  addUnnamed(ino: Ino): void {
    this.#inos.add(ino)
  }

  /** It has got a name. */
  delete(ino: Ino): void {
    this.#inos.delete(ino)
  }

  /** It lost its last name. */
  addUnlinked(ino: Ino): void {
    this.#inos.add(ino)
    this.#unlinked.add(ino)
  }

  /** The kernel has let go of it. The removal of the name is committed and answered on its own: a fault here is no error of the request. */
  release(ino: Ino): void {
    this.#waiting.add(ino)
    try {
      this.#waitingBytes += this.#volume.get(ino).stored
      if (this.#waiting.size < batchSize && this.#waitingBytes <= batchBytes && !this.#volume.isScarce()) return
    } catch {
      // Collecting it meets the same, and tells.
    }
    this.collect()
  }

  /** Removes what waits. */
  collect(): void {
    if (this.#waiting.size === 0) return
    const waiting = [...this.#waiting]
    this.#waitingBytes = 0
    if (this.#tryCollect(waiting) === undefined) return
    for (const ino of waiting) {
      const error = this.#tryCollect([ino])
      if (error !== undefined) this.#onFault(error, ino)
    }
  }

  /** Returns what was thrown: then some of them may be gone. */
  #tryCollect(inos: readonly Ino[]): unknown {
    try {
      this.#volume.collect(inos)
    } catch (error) {
      return error
    }
    for (const ino of inos) {
      this.#waiting.delete(ino)
      this.#inos.delete(ino)
      this.#unlinked.delete(ino)
    }
    return undefined
  }
}
