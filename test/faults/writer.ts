/**
 * An application that works on a volume and trusts fsync. Arguments: a directory of the volume, which it makes; its log, outside
 * the volume; a seed. It goes on until an operation fails, and then exits with 0: the error is what it waits for.
 * Keeps: a fact is logged only after the fsync that makes it true has returned; before a name is touched again it is declared `may`.
 *   Much of what it does it never syncs.
 * Leaves: what the facts mean to facts.ts.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, truncateSync, unlinkSync, writeSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemCode } from '../../src/base/index.ts'
import { seededBytes, seededNumbers } from '../support.ts'
import { blockBytes, makeBlock, sha256, versionContent, type Fact } from './facts.ts'

const [directory = '', log = '', seed = '1'] = process.argv.slice(2)
const next = seededNumbers(Number(seed))
const logDescriptor = openSync(log, 'a')
const label = basename(directory)

/** The blocks of the file that is overwritten in place. */
const blockCount = 64

/** Complete files that may be grown, renamed and removed. */
const files: string[] = []
const blockVersions = new Array<number>(blockCount).fill(0)
let made = 0
let version = 0

const below = (limit: number): number => next() % limit
const bytes = (limit: number): Buffer => seededBytes(next(), below(limit))
const pathOf = (name: string): string => join(directory, name)

function say(fact: Fact): void {
  writeSync(logDescriptor, `${JSON.stringify({ ...fact, name: join(label, fact.name) })}\n`)
}

function sync(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/** Writes with pwrite(2) or append, and syncs unless told otherwise. */
function put(path: string, content: Buffer, { flags = 'w', offset = null as number | null, isSynced = true } = {}): void {
  const descriptor = openSync(path, flags)
  try {
    for (let done = 0; done < content.length;) {
      const at = offset === null ? null : offset + done
      done += writeSync(descriptor, content, done, content.length - done, at)
    }
    if (isSynced) fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

function sayWhole(name: string): void {
  const content = readFileSync(pathOf(name))
  say({ kind: 'has', name, size: content.length, sha256: sha256(content) })
}

function create(): void {
  const name = `f${made++}`
  const content = bytes(below(8) === 0 ? 2_000_000 : 60_000)
  put(pathOf(name), content)
  say({ kind: 'has', name, size: content.length, sha256: sha256(content) })
  files.push(name)
}

function createUnderTemporaryName(): void {
  const name = `r${made++}`
  const content = bytes(30_000)
  put(pathOf('temporary'), content)
  renameSync(pathOf('temporary'), pathOf(name))
  sync(directory)
  say({ kind: 'has', name, size: content.length, sha256: sha256(content) })
  files.push(name)
}

function append(): void {
  const name = files[below(files.length)]
  if (name === undefined) return
  put(pathOf(name), bytes(20_000), { flags: 'a', isSynced: below(2) === 0 })
  if (below(2) === 0) return
  sync(pathOf(name))
  sayWhole(name)
}

/** Several versions, of which the last is synced. */
function replace(): void {
  const name = `current${below(3)}`
  for (let count = 1 + below(3); count > 0; count--) {
    put(pathOf('temporary'), versionContent(++version, bytes(50_000)))
    renameSync(pathOf('temporary'), pathOf(name))
  }
  sync(directory)
  say({ kind: 'version', name, version })
}

function remove(): void {
  const [name] = files.splice(below(Math.max(1, files.length)), 1)
  if (name === undefined) return
  say({ kind: 'may', name })
  unlinkSync(pathOf(name))
  if (below(3) === 0) return
  sync(directory)
  say({ kind: 'gone', name })
}

function move(): void {
  const [name] = files.splice(below(Math.max(1, files.length)), 1)
  if (name === undefined) return
  const newName = `m${made++}`
  say({ kind: 'may', name })
  renameSync(pathOf(name), pathOf(newName))
  sync(directory)
  say({ kind: 'gone', name })
  sync(pathOf(newName))
  sayWhole(newName)
  files.push(newName)
}

function overwriteBlocks(): void {
  version++
  for (let count = 1 + below(12); count > 0; count--) {
    const index = below(blockCount)
    put(pathOf('blocks'), makeBlock(index, version, seededBytes(next(), 3000)), {
      flags: 'r+',
      offset: index * blockBytes,
      isSynced: false,
    })
    blockVersions[index] = version
  }
  if (below(3) === 0) return
  sync(pathOf('blocks'))
  say({ kind: 'blocks', name: 'blocks', versions: blockVersions })
}

/** What nobody relies on: written, shortened, removed, never synced. */
function scribble(): void {
  put(pathOf('scribble'), bytes(3_000_000), { isSynced: false })
  truncateSync(pathOf('scribble'), below(100_000))
  if (below(2) === 0) unlinkSync(pathOf('scribble'))
}

/** A pause lets the volume copy its WAL into its file, a long one lets it empty the WAL. */
async function pause(): Promise<void> {
  await sleep(below(12) === 0 ? 2300 : 50 + below(250))
}

const steps = [create, create, createUnderTemporaryName, append, append, replace, remove, move, overwriteBlocks, overwriteBlocks, scribble]

try {
  mkdirSync(directory)
  put(pathOf('blocks'), Buffer.concat(blockVersions.map((_, index) => makeBlock(index, 0, Buffer.alloc(0)))))
  say({ kind: 'blocks', name: 'blocks', versions: blockVersions })
  for (;;) {
    if (below(40) === 0) await pause()
    steps[below(steps.length)]?.()
  }
} catch (error) {
  const code = systemCode(error)
  if (code !== 'EIO' && code !== 'ENOTCONN' && code !== 'ECONNABORTED') throw error
}
