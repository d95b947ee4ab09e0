/**
 * The copy of the request in hand, and of each LSEEK that is answered later, for kernels that cannot send them again (before Linux 6.9).
 * Keeps: what was read from the device is on tmpfs before it is served, and stays there until the next one is.
 * Leaves: a process that is killed between the kernel's copy and ours loses the request: nothing can be done about that there.
 */
import { closeSync, constants, openSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Nodeid } from '../base/index.ts'
import type { LateSeek } from '../fuse/index.ts'

/** The first 4 bytes of a request are its length (fuse_in_header). */
const lengthBytes = 4

export class RequestCopy {
  readonly #file: number

  constructor(path: string) {
    this.#file = openSync(path, constants.O_WRONLY | constants.O_CREAT, 0o600)
  }

  /** Keeps the first `length` bytes of `request`: the body first, since the length in front says that it is whole. */
  keep(request: Buffer, length: number): void {
    writeSync(this.#file, zero, 0, lengthBytes, 0)
    writeSync(this.#file, request, lengthBytes, length - lengthBytes, lengthBytes)
    writeSync(this.#file, request, 0, lengthBytes, 0)
  }

  close(): void {
    closeSync(this.#file)
  }
}

const zero = Buffer.alloc(lengthBytes)

/** The request that a predecessor had in hand, which may be answered; undefined when there was none. */
export function readRequestCopy(path: string): Buffer | undefined {
  const bytes = readFileSync(path)
  const length = bytes.length < lengthBytes ? 0 : bytes.readUInt32LE(0)
  if (length === 0) return undefined
  return bytes.subarray(0, length)
}

/** Its files are named so, with `unique` behind. */
const seekPrefix = 'seek-'

/** Keeps an LSEEK in `folder` until `dropSeek`. */
export function keepSeek(folder: string, { unique, nodeid, offset, target }: LateSeek): void {
  const path = join(folder, `${seekPrefix}${String(unique)}`)
  writeFileSync(`${path}.new`, JSON.stringify({ nodeid, offset, target }), { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

export function dropSeek(folder: string, unique: bigint): void {
  rmSync(join(folder, `${seekPrefix}${String(unique)}`), { force: true })
}

/** Every LSEEK that a predecessor has kept. */
export function readSeeks(folder: string): LateSeek[] {
  const names = readdirSync(folder).filter((name) => name.startsWith(seekPrefix) && !name.endsWith('.new'))
  return names.map((name) => {
    const kept = JSON.parse(readFileSync(join(folder, name), 'utf8')) as { nodeid: Nodeid; offset: number; target: LateSeek['target'] }
    return { ...kept, unique: BigInt(name.slice(seekPrefix.length)) }
  })
}
