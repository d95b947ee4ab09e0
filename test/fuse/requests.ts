/**
 * Requests as the kernel would send them, for tests without a kernel; and a source of bytes from a seed.
 * Keeps: the same seed gives the same bytes. Leaves: what the answers must be to the tests.
 */
import { Dispatcher } from '../../src/fuse/dispatcher.ts'
import { inHeader } from '../../src/fuse/wire.ts'

export interface Reply {
  readonly length: number
  readonly error: number
  readonly unique: bigint
  readonly payload: Buffer
}

/** Sends one request to `dispatcher`: `body` follows the header. undefined: not answered. */
export function send(
  dispatcher: Dispatcher,
  opcode: number,
  body: Buffer = Buffer.alloc(0),
  { nodeid = 1, unique = 7n, len = -1 } = {},
): Reply | undefined {
  const { buffer, view } = dispatcher.request
  const length = inHeader.size + body.length
  inHeader.encode(view, 0, { len: len < 0 ? length : len, opcode, nodeid, uid: 0, gid: 0, pid: 1, totalExtlen: 0, padding: 0 })
  view.setBigUint64(8, unique, true)
  body.copy(buffer, inHeader.size)
  return replyOf(dispatcher, dispatcher.dispatch(length))
}

/** The reply of `length` bytes in the reply buffer; undefined for 0. */
export function replyOf({ reply }: Dispatcher, length: number): Reply | undefined {
  if (length === 0) return undefined
  const { buffer, view } = reply
  const payload = Buffer.from(buffer.subarray(16, length))
  return { length: view.getUint32(0, true), error: view.getInt32(4, true), unique: view.getBigUint64(8, true), payload }
}

/** Numbers from 0 to below 1 from a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
