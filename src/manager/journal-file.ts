/**
 * The file of the journal on the disk: lines are appended to it, and it is replaced whole.
 * Keeps: what was appended, or replaced and then appended to, survives power loss; what failed leaves nothing behind that a later
 *   append could stand on: its bytes are cut off, durably, before the next line is written, and so is a rename made durable.
 * Leaves: what the lines say to journal.ts, whose turn it is to journal-store.ts.
 */
import { closeSync, fdatasyncSync, fsyncSync, ftruncateSync, linkSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { ErrnoError, messageOf, systemCode } from '../base/index.ts'
import { syncFolder } from './atomic-file.ts'

/** What is appended to the name of the file that the last replacement put away. */
export const previousSuffix = '.previous'

export class JournalFile {
  readonly #path: string
  #descriptor: number
  /** Bytes of whole lines; what may follow is cut off before the next is written. */
  #length: number
  /** False while bytes of a failed append may lie behind `#length`. */
  #isTailClean = true
  /** False after a rename that may not have reached the disk: until it has, power loss could bring the file of before back. */
  #isNameDurable = true

  private constructor(path: string, descriptor: number, length: number) {
    this.#path = path
    this.#descriptor = descriptor
    this.#length = length
  }

  /** Opens a file of whole lines up to `length`; what follows is cut off. What a killed writer had not synced yet, content or name,
   *  is on the disk when this returns. Throws EIO. */
  static open(path: string, length: number): JournalFile {
    const file = new JournalFile(path, attempt(path, () => openSync(path, 'r+')), length) // prettier-ignore
    file.#isTailClean = false
    file.#isNameDurable = false
    return file.#settleOrClose()
  }

  /** Makes the file with this content. Throws ENOSPC, EIO. */
  static create(path: string, content: Buffer): JournalFile {
    const descriptor = writeTemporary(path, content)
    const file = new JournalFile(path, descriptor, content.length)
    file.#isNameDurable = false
    try {
      attempt(path, () => { renameSync(temporaryOf(path), path) }) // prettier-ignore
    } catch (error) {
      file.close()
      throw error
    }
    return file.#settleOrClose()
  }

  /** Appends a line; it is on the disk when this returns. Throws ENOSPC, EDQUOT, EIO; then the file is as it was before. */
  append(line: Buffer): void {
    this.#settle()
    try {
      writeAll(this.#descriptor, line, this.#length)
      fdatasyncSync(this.#descriptor)
      this.#length += line.length
    } catch (cause) {
      this.#isTailClean = false
      this.#trySettle()
      throw toStoreError(this.#path, cause)
    }
  }

  /** Replaces the whole content; the file of before stays beside it. Throws ENOSPC, EDQUOT, EIO; then the file is as it was before. */
  replace(content: Buffer): void {
    const descriptor = writeTemporary(this.#path, content)
    try {
      attempt(this.#path, () => {
        keepPrevious(this.#path)
        renameSync(temporaryOf(this.#path), this.#path)
      })
    } catch (error) {
      closeSync(descriptor)
      throw error
    }
    closeSync(this.#descriptor)
    this.#descriptor = descriptor
    this.#length = content.length
    this.#isTailClean = true
    this.#isNameDurable = false
    this.#trySettle() // old and new file say the same, so until something is appended either will do
  }

  close(): void {
    closeSync(this.#descriptor)
  }

  /** Makes good what an earlier call left undone. Throws EIO. */
  #settle(): void {
    attempt(this.#path, () => {
      if (!this.#isTailClean) {
        ftruncateSync(this.#descriptor, this.#length)
        fdatasyncSync(this.#descriptor)
      }
      this.#isTailClean = true
      if (!this.#isNameDurable) syncFolder(dirname(this.#path))
      this.#isNameDurable = true
    })
  }

  /** What cannot be made good now is tried again, and reported, with the next append. */
  #trySettle(): void {
    try {
      this.#settle()
    } catch {
      // the flags say what is left to do
    }
  }

  #settleOrClose(): this {
    try {
      this.#settle()
      return this
    } catch (error) {
      this.close()
      throw error
    }
  }
}

function temporaryOf(path: string): string {
  return `${path}.tmp`
}

/** Writes the content beside the file, on the disk; returns the open descriptor. */
function writeTemporary(path: string, content: Buffer): number {
  const descriptor = attempt(path, () => openSync(temporaryOf(path), 'w', 0o600))
  try {
    writeAll(descriptor, content, 0)
    fsyncSync(descriptor)
    return descriptor
  } catch (cause) {
    closeSync(descriptor)
    rmSync(temporaryOf(path), { force: true }) // on a full disk it is what took the last room
    throw toStoreError(path, cause)
  }
}

/** Power loss between the two calls costs the older history, not the store. */
function keepPrevious(path: string): void {
  rmSync(path + previousSuffix, { force: true })
  linkSync(path, path + previousSuffix)
}

/** write(2) may write less than it was given. */
function writeAll(descriptor: number, bytes: Buffer, position: number): void {
  for (let done = 0; done < bytes.length;) done += writeSync(descriptor, bytes, done, bytes.length - done, position + done)
}

function attempt<T>(path: string, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    throw toStoreError(path, cause)
  }
}

function toStoreError(path: string, cause: unknown): ErrnoError {
  const code = systemCode(cause)
  const message = `store ${path}: ${messageOf(cause)}`
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return new ErrnoError('EIO', message, { cause })
  return new ErrnoError(code, message, { cause, hint: 'make room on the disk of the data root' })
}
