/**
 * Messages that a server writes unasked, or for another thread: notifications, and answers apart from the session's own.
 * Keeps: each is one write(2), so it cannot mix with the session's replies.
 * Leaves: when to send them to session.ts and late-seek.ts.
 */
import { writeSync } from 'node:fs'
import { notifyCodes } from './constants.ts'
import { UNIQUE_AT, outHeader } from './wire.ts'

/** A message with its header filled in: `error` is a negative errno, or with `unique` 0 a notify code. */
export function makeMessage(payload: number, error: number, unique: bigint): { readonly buffer: Buffer; readonly view: DataView } {
  const buffer = Buffer.alloc(outHeader.size + payload)
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length)
  view.setUint32(0, buffer.length, true)
  view.setInt32(4, error, true)
  view.setBigUint64(UNIQUE_AT, unique, true)
  return { buffer, view }
}

/**
 * Has the kernel send again, with bit 63 of `unique` set, every request that was read and not answered (FUSE_NOTIFY_RESEND,
 * Linux 6.9). Once for each successor, when its predecessor is surely dead: every call sends all of them.
 */
export function requestResend(device: number): void {
  writeSync(device, makeMessage(0, notifyCodes.RESEND, 0n).buffer)
}
