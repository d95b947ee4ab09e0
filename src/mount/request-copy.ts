/**
 * The copy of the request in hand, for kernels that cannot send it again (before Linux 6.9).
 * Keeps: what was read from the device is on tmpfs before it is served; one request at a time.
 * Leaves: a process that is killed between the kernel's copy and ours loses the request: nothing can be done about that there.
 */
import { closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs'

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

/** The request that a predecessor had in hand, marked as sent again; undefined when there was none. */
export function readRequestCopy(path: string): Buffer | undefined {
  const bytes = readFileSync(path)
  const length = bytes.length < lengthBytes ? 0 : bytes.readUInt32LE(0)
  if (length === 0) return undefined
  const request = bytes.subarray(0, length)
  request.writeUInt8(request.readUInt8(uniqueTop) | 0x80, uniqueTop)
  return request
}

/** The last byte of `unique`, whose highest bit marks a request that is sent again (FUSE_UNIQUE_RESEND). */
const uniqueTop = 15
