/**
 * The folder of volume files, and the steps that make a volume appear or vanish in it whole.
 * Keeps: ID.litevol belongs to a record. ID.litevol.new is being made, ID.litevol.deleted is being deleted: what a crash leaves of
 *   either, `tidy` finishes or undoes at the next start, as the store says. A file without a record is never removed.
 * Leaves: the record to volume-manager.ts.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { ErrnoError, type Logger } from '../base/index.ts'
import { createVolumeFile, type VolumeFileOptions } from '../engine/index.ts'
import { makeFolderDurably, removeDurably, renameDurably } from './atomic-file.ts'

const suffix = '.litevol'
const newSuffix = '.new'
const deletedSuffix = '.deleted'

/** What SQLite may leave beside a file. */
const companions = ['-wal', '-shm', '-journal']

export class VolumeFiles {
  readonly #folder: string

  /** Makes the folder if need be. */
  constructor(dataRoot: string) {
    this.#folder = join(dataRoot, 'volumes')
    makeFolderDurably(this.#folder)
  }

  /** The name of the file of a new volume. */
  static nameOf(id: string): string {
    return `${id}${suffix}`
  }

  path(name: string): string {
    return join(this.#folder, name)
  }

  /** Makes the file, calls `commit`, then gives it its name. When any of it throws there is neither file nor record. Throws EIO without the folder. */
  create(name: string, options: VolumeFileOptions, commit: () => void, rollback: () => void): void {
    this.#assertFolder()
    createVolumeFile(this.path(name + newSuffix), options)
    this.#adopt(name, commit, rollback)
  }

  /** The same for a file that `fill` writes to the path it is given, and syncs. */
  async receive(name: string, fill: (file: string) => Promise<void>, commit: () => void, rollback: () => void): Promise<void> {
    this.#assertFolder()
    const made = this.path(name + newSuffix)
    try {
      await fill(made)
    } catch (error) {
      removeDurably(made)
      throw error
    }
    this.#adopt(name, commit, rollback)
  }

  /** That it is gone, under a manager that runs, is no fault of who asks: ENOENT would tell him that something else is. */
  #assertFolder(): void {
    if (existsSync(this.#folder)) return
    throw new ErrnoError('EIO', `folder ${this.#folder}: is gone`, { hint: 'bring the data root back, or start litevol anew' })
  }

  #adopt(name: string, commit: () => void, rollback: () => void): void {
    const made = this.path(name + newSuffix)
    try {
      commit()
    } catch (error) {
      removeDurably(made)
      throw error
    }
    try {
      renameDurably(made, this.path(name))
    } catch (error) {
      rollback()
      removeDurably(made)
      throw error
    }
  }

  /** Takes the file's name away, calls `commit`, then removes it. When `commit` throws the file is back. */
  remove(name: string, commit: () => void): void {
    const file = this.path(name)
    const doomed = this.path(name + deletedSuffix)
    const isThere = existsSync(file)
    if (isThere) renameDurably(file, doomed)
    try {
      commit()
    } catch (error) {
      if (isThere) renameDurably(doomed, file)
      throw error
    }
    for (const companion of companions) removeDurably(file + companion)
    removeDurably(doomed)
  }

  /** Finishes or undoes what a crash interrupted. `isKnown` says whether a record has that file. */
  tidy(isKnown: (name: string) => boolean, log: Logger): void {
    for (const entry of readdirSync(this.#folder)) {
      const ending = [newSuffix, deletedSuffix].find((one) => entry.endsWith(suffix + one))
      if (ending !== undefined) this.#settle(entry, entry.slice(0, -ending.length), isKnown, log)
      else if (entry.endsWith(suffix) && !isKnown(entry)) log.warn({ file: entry }, 'a volume file without a record is left alone')
      else if (/\.litevol\.new-(wal|shm|journal)$/.test(entry)) removeDurably(this.path(entry))
    }
  }

  #settle(entry: string, name: string, isKnown: (name: string) => boolean, log: Logger): void {
    const isWanted = isKnown(name) && !existsSync(this.path(name))
    log.warn({ file: entry, isWanted }, 'an interrupted change of a volume file is settled')
    if (isWanted) renameDurably(this.path(entry), this.path(name))
    else for (const doomed of [...companions.map((companion) => name + companion), entry]) removeDurably(this.path(doomed))
  }
}
