/**
 * Random operations on a volume and on a simple model of it: the same answers, the same state, and a clean check after every step.
 * A failure prints the shortest sequence that fast-check found, and the seed and path that replay it:
 *   LITEVOL_SEED=1234 LITEVOL_PATH=12:3:0 node --test test/engine/model.test.ts
 * LITEVOL_PROPERTY_SECONDS sets how long each property is tried (default 10); a long run sets 600.
 */
import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { copyFileSync, existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { ErrnoError, isRegular, now, type Timestamp } from '../../src/base/index.ts'
import { Volume, blockSize, checkVolume, createVolumeFile, type Inode } from '../../src/engine/index.ts'
import { withFolder } from '../support.ts'
import { assertProperty } from '../properties.ts'
import { sequences, type Call, type Command } from './commands.ts'
import { Model, type Subject } from './model.ts'

type Outcome = { readonly value: unknown } | { readonly code: string }

/** What a call came to: its value, inodes without what is compared apart, or the code that it threw. */
function outcome(subject: Subject, call: Call): Outcome {
  try {
    return { value: plain(call(subject)) }
  } catch (error) {
    if (error instanceof ErrnoError) return { code: error.code }
    throw error
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
class Pair {
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

  step(command: Command): void {
    const before = now()
    if (command.kind === 'call') this.#call(command.prepare(this.model))
    else if (command.kind === 'crash') this.#crash()
    else this.#reopen()
    this.#compare(before)
    assert.deepEqual(checkVolume(this.#file), [])
  }

  #call(call: Call): void {
    const expected = outcome(this.model, call)
    assert.deepEqual(outcome(this.#volume, call), expected)
  }

  /** Closing collects what has no name. */
  #reopen(): void {
    this.#volume.close()
    assert.ok(!existsSync(`${this.#file}-wal`))
    this.model.collectOrphans()
    this.#volume = Volume.open(this.#file)
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

test('a volume answers as the model does, whatever is done to it, and its check is clean after every step', (context) =>
  withFolder((folder) => {
    const template = join(folder, 'template.sqlite')
    createVolumeFile(template)
    let runs = 0
    let steps = 0
    const property = fc.property(sequences, (commands) => {
      const pair = new Pair(folder, template)
      try {
        for (const command of commands) pair.step(command)
        pair.step({ kind: 'reopen' })
      } finally {
        pair.close()
      }
      runs++
      steps += commands.length
    })
    assertProperty(property)
    context.diagnostic(`${String(runs)} sequences, ${String(steps)} steps`)
  }))
