/**
 * A volume and its model, side by side: the same calls, the same answers, the same state.
 * Keeps: after every step everything that can be seen of both has been compared, and the volume's check is clean.
 * Leaves: which calls to commands.ts.
 */
import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { copyFileSync, existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ErrnoError, isRegular, now, type Timestamp } from '../../src/base/index.ts'
import { Maintenance, Volume, blockSize, checkVolume, type Inode } from '../../src/engine/index.ts'
import type { Call, CallCommand, Command } from './commands.ts'
import { Model, type Subject } from './model.ts'

type Outcome = { readonly value: unknown } | { readonly code: string }

/** What a call came to: its value, inodes without what is compared apart, or the code that it threw. */
function outcome(subject: Subject, call: Call, onError?: (error: ErrnoError) => void): Outcome {
  try {
    return { value: plain(call(subject)) }
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error
    onError?.(error)
    return { code: error.code }
  }
}

const isInode = (value: unknown): value is Inode => typeof value === 'object' && value !== null && 'nlink' in value

/** An inode without its times; `parent` of anything but a directory is a hint (format.md). */
function plain(value: unknown): unknown {
  if (!isInode(value)) return value
  const { atime: _a, mtime: _m, ctime: _c, parent, ...rest } = value
  return rest.mode >> 12 === 4 ? { ...rest, parent } : rest
}

/** A volume beside its model. */
export class Pair {
  readonly model = new Model()
  #folder: string
  #file: string
  #volume: Volume
  #copies = 0

  constructor(folder: string, template: string) {
    this.#folder = folder
    this.#file = join(folder, 'volume.sqlite')
    copyFileSync(template, this.#file)
    this.#volume = Volume.open(this.#file)
    this.model.adopt(this.#volume.get(this.model.root))
  }

  /** Does the same to both and compares them. */
  step(command: Command): void {
    const before = now()
    if (command.kind === 'call') this.#call(command.prepare(this.model))
    else if (command.kind === 'crash') this.#crash()
    else this.#reopen()
    this.#compare(before)
    this.#check()
  }

  #call(call: Call): void {
    const expected = outcome(this.model, call)
    assert.deepEqual(outcome(this.#volume, call), expected)
  }

  /**
   * Does it on a disk that may be full: ENOSPC leaves the volume as it was, anything else must be as on any disk. What consists of
   * several transactions may have done some of them. Returns the error that said ENOSPC.
   */
  attempt({ prepare, isAtomic }: CallCommand): ErrnoError | undefined {
    const before = now()
    const call = prepare(this.model)
    let full: ErrnoError | undefined
    const actual = outcome(this.#volume, call, (error) => (full = error.code === 'ENOSPC' ? error : undefined))
    if (full === undefined) assert.deepEqual(actual, outcome(this.model, call))
    if (full === undefined || isAtomic) this.#compare(before)
    this.#check()
    return full
  }

  /** Holds a snapshot of the volume while `work` runs: its WAL begins anew, and cannot be given back meanwhile. */
  pinned<T>(work: () => T): T {
    const maintenance = new Maintenance(this.#file)
    try {
      maintenance.truncateWal()
      maintenance.acquireSnapshot()
      return work()
    } finally {
      maintenance.close()
    }
  }

  /** Closing collects what has no name. */
  #reopen(): void {
    this.#volume.close()
    assert.ok(!existsSync(`${this.#file}-wal`))
    this.model.collect([...this.model.nodes.keys()])
    this.#volume = Volume.open(this.#file)
  }

  /** Closes on a disk that may be full; with room again, everything is there. */
  closeOnFullDisk(giveRoom: () => void): void {
    try {
      this.#volume.close()
    } catch (error) {
      assert.ok(error instanceof ErrnoError && error.code === 'ENOSPC', String(error))
    }
    giveRoom()
    this.#check()
    this.#volume = Volume.open(this.#file)
    this.step({ kind: 'reopen' })
  }

  #check(): void {
    assert.deepEqual(checkVolume(this.#file), [])
  }

  /** File and WAL as they are, without a close: what a killed process leaves. */
  #crash(): void {
    const copy = join(this.#folder, `volume-${String(++this.#copies)}.sqlite`)
    for (const suffix of ['', '-wal']) copyFileSync(this.#file + suffix, copy + suffix)
    this.close()
    rmSync(this.#file)
    this.#file = copy
    this.#volume = Volume.open(copy)
  }

  close(): void {
    this.#volume.close()
  }

  /** Everything that can be seen of both. */
  #compare(before: Timestamp): void {
    assert.equal(this.#volume.room().inodes, this.model.nodes.size)
    for (const ino of this.model.nodes.keys()) {
      const inode = this.#volume.get(ino)
      for (const field of this.model.touchedTimes(ino)) assertAround(inode[field], before)
      this.model.adopt(inode)
      assert.deepEqual(visible(this.#volume, inode, this.model), visible(this.model, this.model.get(ino), this.model))
    }
  }
}

/** A time of the step that began at `before`, give or take what a clock that is being set may do. */
function assertAround({ sec }: Timestamp, before: Timestamp): void {
  assert.ok(sec >= before.sec - 1 && sec <= now().sec + 1, `a time of ${String(sec)} in a step that began at ${String(before.sec)}`)
}

/** What can be seen of an inode: attributes with times, entries, content, extended attributes. */
function visible(subject: Subject, inode: Inode, model: Model): unknown {
  const { ino, mode, atime, mtime, ctime } = inode
  const attributes = subject.xattrNames(ino).map((name) => [name, subject.getXattr(ino, name)])
  const content = isRegular(mode) ? read(subject, inode, model) : undefined
  const entries: unknown[] = []
  if (mode >> 12 === 4) subject.list(ino, 0, (dentry) => entries.push(dentry) > 0)
  return [plain(inode), atime, mtime, ctime, attributes, entries, content]
}

/** The first blocks of a file, and every other block in which the model has bytes. */
function read(subject: Subject, { ino, size }: Inode, model: Model): string[] {
  const blocks = new Set([0, 1, 2, 3, 4].map((index) => index * blockSize))
  for (const offset of model.nodes.get(ino)?.content.blocks ?? []) blocks.add(offset)
  return [...blocks]
    .filter((offset) => offset < size)
    .map((offset) => {
      const into = Buffer.alloc(blockSize, 0x55)
      subject.read(ino, offset, into)
      return `${String(offset)}: ${hash('sha256', into)}`
    })
}
