/**
 * The few helpers that tests share: temporary folders, seeded bytes, volumes that end in a clean check, asserted codes, waiting.
 * Keeps: whatever a helper made is gone when its callback is done, passed or failed.
 * Leaves: mounts to test/system/support.ts.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, realpathSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ErrnoError, S_IFDIR, S_IFREG, type ErrnoCode, type Ino } from '../src/base/index.ts'
import { Volume, checkVolume, createVolumeFile } from '../src/engine/index.ts'

/** Runs `work` with a new folder that is removed afterwards. */
export async function withFolder<T>(work: (folder: string) => T | Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'litevol-test-'))
  try {
    return await work(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Runs `work` with a new open volume; afterwards it is closed, and its check, every chunk included, must be clean. */
export async function withVolume<T>(work: (volume: Volume, file: string) => T | Promise<T>): Promise<T> {
  return withFolder(async (folder) => {
    const file = join(folder, 'volume.sqlite')
    createVolumeFile(file)
    const volume = Volume.open(file)
    let result: T
    try {
      result = await work(volume, file)
    } finally {
      volume.close()
    }
    assertClean(file)
    return result
  })
}

/** Runs `work` with a new closed volume file, whose root belongs to 7:8 with mode 0700. */
export async function withFile(work: (file: string, folder: string) => void | Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    const file = join(folder, 'volume.sqlite')
    createVolumeFile(file, { uid: 7, gid: 8, mode: 0o700 })
    await work(file, folder)
  })
}

/** Asserts that check finds nothing, deep. */
export function assertClean(file: string): void {
  assert.deepEqual(checkVolume(file, { deep: true }), [])
}

/** Asserts that `work` throws an ErrnoError of that code; returns it. */
export function assertErrno(code: ErrnoCode, work: () => unknown): ErrnoError {
  let thrown: unknown
  try {
    work()
  } catch (error) {
    thrown = error
  }
  assert.ok(thrown instanceof ErrnoError, `an ErrnoError was expected, got ${String(thrown)}`)
  assert.equal(thrown.code, code, thrown.message)
  return thrown
}

/** A generator of 32-bit numbers that a seed decides (mulberry32, public domain). */
export function seededNumbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
}

/** `length` bytes that a seed decides. */
export function seededBytes(seed: number, length: number): Buffer {
  const next = seededNumbers(seed)
  const bytes = Buffer.alloc(Math.ceil(length / 4) * 4)
  for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(next(), at)
  return bytes.subarray(0, length)
}

const owner = { uid: 1000, gid: 1001 }
const writing = { keepTimes: false, killPrivileges: false }

/** Makes a regular file with content. */
export function makeFile(volume: Volume, parent: Ino, name: string, content: Buffer | string = ''): Ino {
  const { ino } = volume.create(parent, Buffer.from(name), { ...owner, mode: S_IFREG | 0o644 })
  if (content.length > 0) volume.write(ino, 0, Buffer.from(content), writing)
  return ino
}

/** Makes a directory. */
export function makeDirectory(volume: Volume, parent: Ino, name: string): Ino {
  return volume.create(parent, Buffer.from(name), { ...owner, mode: S_IFDIR | 0o755 }).ino
}

/** All bytes of a file. */
export function readAll(volume: Volume, ino: Ino): Buffer {
  const content = Buffer.alloc(volume.get(ino).size)
  assert.equal(volume.read(ino, 0, content), content.length)
  return content
}

/** The names in a directory, in the order of the listing. */
export function names(volume: Volume, ino: Ino): string[] {
  const found: string[] = []
  volume.list(ino, 0, ({ name }) => found.push(name.toString()) > 0)
  return found
}

/** Opens a volume in a child, runs `script` on `volume` there and kills the child: FILE, FILE-wal and FILE-shm are left. */
export function crash(file: string, script: string): void {
  const engine = JSON.stringify(new URL('../src/engine/index.ts', import.meta.url).href)
  const code = `import { Volume } from ${engine}
    const volume = Volume.open(${JSON.stringify(file)})
    ${script}
    process.kill(process.pid, 'SIGKILL')`
  assert.equal(spawnSync(process.execPath, ['--input-type=module', '-e', code], { timeout: 60_000 }).signal, 'SIGKILL')
  assert.ok(statSync(`${file}-wal`).size > 0)
}

/** Waits until `isDone`; fails after `timeoutMs`. */
export async function until(what: string, isDone: () => boolean | Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!(await isDone())) {
    if (Date.now() > deadline) throw new Error(`not within ${String(timeoutMs)} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
