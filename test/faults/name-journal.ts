/**
 * Which names of the faulty disk a power cut leaves: those synced with their directory, and of later changes any.
 * Keeps: a change of names is whole or not there at all; those that survive do so in their order. A name is on the disk only
 *   once its directory is synced: syncing the file alone is not enough (POSIX; ext4 is kinder).
 * Leaves: the names that are seen now to faulty-disk.ts.
 */
import type { Random } from './stored-file.ts'

/** A name in a directory, and the inode that it stands for. */
export interface Link {
  readonly directory: number
  readonly name: string
  readonly ino: number
}

/** A step that is whole or not: some names go, then others come. */
export interface NameChange {
  readonly removed: readonly Link[]
  readonly added: readonly Link[]
}

/** Directory → name → inode. */
export type Names = Map<number, Map<string, number>>

export class NameJournal {
  readonly #onDisk: Names = new Map()
  #pending: NameChange[] = []

  record(change: NameChange): void {
    this.#pending.push(change)
  }

  /** Everything recorded is on the disk. */
  syncAll(): void {
    for (const change of this.#pending) apply(this.#onDisk, change)
    this.#pending = []
  }

  /** The changes of a directory, and those that they hang together with, are on the disk. */
  sync(directory: number): void {
    const chosen = new Set<NameChange>()
    const directories = new Set([directory])
    for (let before = -1; before < chosen.size;) {
      before = chosen.size
      for (const change of this.#pending) {
        const touched = directoriesOf(change)
        if (!touched.some((one) => directories.has(one))) continue
        chosen.add(change)
        for (const one of touched) directories.add(one)
      }
    }
    for (const change of this.#pending) if (chosen.has(change)) apply(this.#onDisk, change)
    this.#pending = this.#pending.filter((change) => !chosen.has(change))
  }

  /** The names after a power cut; each change not synced survives with the probability `chance`. */
  survivors(chance: number, random: Random): Names {
    const names: Names = new Map([...this.#onDisk].map(([directory, entries]) => [directory, new Map(entries)]))
    for (const change of this.#pending) if (random() < chance) apply(names, change)
    return names
  }
}

function directoriesOf({ removed, added }: NameChange): number[] {
  return [...removed, ...added].map(({ directory }) => directory)
}

function apply(names: Names, { removed, added }: NameChange): void {
  for (const { directory, name, ino } of removed) if (names.get(directory)?.get(name) === ino) names.get(directory)?.delete(name)
  for (const { directory, name, ino } of added) {
    const entries = names.get(directory) ?? new Map<string, number>()
    names.set(directory, entries.set(name, ino))
  }
}
