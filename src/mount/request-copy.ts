/**
 * The copy of the request in hand, and of each LSEEK that is answered later, for kernels that cannot send them again (before Linux 6.9).
 * Keeps: what was read from the device is on tmpfs before it is served, and stays there until it is answered. One write(2) makes the
 *   copy, and ends with the header: a process killed in it leaves no half of a request.
 * Leaves: a request whose process is killed before the copy is whole to lost-requests.ts.
 *
 * In the file: what follows the header, up to `headerAt`; the header, whose first 4 bytes, the length, are 0 when no request is in
 * hand; then CopyMarks as two 64-bit floats.
 */
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
  writevSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Nodeid } from '../base/index.ts'
import { opcodes, type LateSeek } from '../fuse/index.ts'

/** Larger than any request; the start of a page, so that the header is written whole or not at all. */
const headerAt = 2 << 20

/** fuse_in_header of linux/fuse.h: its length, and where in it stands what is needed here. */
const headerBytes = 40
const opcodeAt = 4
const uniqueAt = 8

const marksAt = headerAt + headerBytes
const marksBytes = 16

/** What is known of the requests copied so far, by number. */
export interface CopyMarks {
  /** The last one of those that are to be answered, which FORGETs are not. */
  readonly lastRequest: number
  /** The highest number of all, FORGETs included. */
  readonly highest: number
}

export class RequestCopy {
  readonly #file: number
  readonly #marks = Buffer.alloc(marksBytes)
  #lastRequest: number
  #highest: number

  /** `marks` are those of the predecessor, if there was one. */
  constructor(path: string, { lastRequest, highest }: CopyMarks) {
    this.#file = openSync(path, constants.O_WRONLY | constants.O_CREAT, 0o600)
    this.#lastRequest = lastRequest
    this.#highest = highest
  }

  /** Keeps the first `length` bytes of `request`. */
  keep(request: Buffer, length: number): void {
    if (!isInterrupt(request)) this.#count(request.readUInt32LE(opcodeAt), numberOf(request))
    writevSync(
      this.#file,
      [request.subarray(headerBytes, length), request.subarray(0, headerBytes), this.#marks],
      headerAt - (length - headerBytes),
    )
  }

  /** The request in hand is answered. */
  drop(): void {
    writeSync(this.#file, noLength, 0, noLength.length, headerAt)
  }

  close(): void {
    closeSync(this.#file)
  }

  #count(opcode: number, number: number): void {
    if (opcode !== opcodes.FORGET && opcode !== opcodes.BATCH_FORGET) this.#lastRequest = number
    this.#highest = Math.max(this.#highest, number)
    this.#marks.writeDoubleLE(this.#lastRequest, 0)
    this.#marks.writeDoubleLE(this.#highest, 8)
  }
}

const noLength = Buffer.alloc(4)

/** `unique`, as a number: no kernel counts as far as 2^53. */
export function numberOf(request: Buffer): number {
  return request.readUInt32LE(uniqueAt + 4) * 2 ** 32 + request.readUInt32LE(uniqueAt)
}

/** Whether it is an INTERRUPT, whose number is that of the request that it interrupts. */
export function isInterrupt(request: Buffer): boolean {
  return request.readUInt32LE(opcodeAt) === opcodes.INTERRUPT
}

/** What a predecessor has left. */
export interface LeftCopy {
  /** The request that it had in hand, which may be answered; undefined when there was none. */
  readonly request: Buffer | undefined
  readonly marks: CopyMarks
}

export function readRequestCopy(path: string): LeftCopy {
  const bytes = existsSync(path) ? readFileSync(path) : Buffer.alloc(0)
  if (bytes.length < marksAt + marksBytes) return { request: undefined, marks: { lastRequest: 0, highest: 0 } }
  const length = bytes.readUInt32LE(headerAt)
  const marks = { lastRequest: bytes.readDoubleLE(marksAt), highest: bytes.readDoubleLE(marksAt + 8) }
  if (length === 0) return { request: undefined, marks }
  const header = bytes.subarray(headerAt, marksAt)
  return { request: Buffer.concat([header, bytes.subarray(headerAt - (length - headerBytes), headerAt)]), marks }
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
