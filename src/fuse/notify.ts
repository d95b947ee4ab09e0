/**
 * Messages that a server writes unasked, or for another thread: notifications, and answers apart from the session's own.
 * Keeps: each is one write(2), so it cannot mix with the session's replies.
 * Leaves: when to send them to session.ts and late-seek.ts.
 */
import { writeSync } from 'node:fs'
import { systemCode, type Nodeid } from '../base/index.ts'
import { ROOT_ID, notifyCodes } from './constants.ts'
import { UNIQUE_AT, notifyInvalInodeOut, outHeader } from './wire.ts'

/** A message with its header filled in: `error` is a negative errno, or with `unique` 0 a notify code. */
export function makeMessage(payload: number, error: number, unique: bigint): { readonly buffer: Buffer; readonly view: DataView } {
  const buffer = Buffer.alloc(outHeader.size + payload)
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length)
  view.setUint32(0, buffer.length, true)
  view.setInt32(4, error, true)
  view.setBigUint64(UNIQUE_AT, unique, true)
  return { buffer, view }
}

/** Has the kernel drop what it holds of an inode (FUSE_NOTIFY_INVAL_INODE): its attributes, and its pages from `offset` on; with a
 *  negative `offset` its attributes only. */
export function invalidation(nodeid: Nodeid, offset: number): Buffer {
  const { buffer, view } = makeMessage(notifyInvalInodeOut.size, notifyCodes.INVAL_INODE, 0n)
  notifyInvalInodeOut.encode(view, outHeader.size, { ino: nodeid, off: offset, len: 0 }) // len 0: to the end
  return buffer
}

/** A message as printf(1) takes it. */
export function inOctal(message: Buffer): string {
  return Array.from(message, (byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('')
}

/**
 * Has the kernel ask for the inode's attributes again; waits for nothing, so a session may call it before it answers. A kernel
 * that is told by HANDLE_KILLPRIV_V2 that we clear setuid and setgid goes on with the mode it holds (fuse_write_update_attr of
 * fs/fuse/file.c, Linux 6.18: a setuid program that somebody else had overwritten ran as its owner).
 */
export function forgetAttributes(device: number, nodeid: Nodeid): void {
  try {
    writeSync(device, invalidation(nodeid, -1))
  } catch {
    // ENOENT: it holds nothing of the inode. ENODEV: the mount is gone, which the session finds out by itself.
  }
}

/**
 * Whether the connection is mounted somewhere, even if only in another mount namespace: as long as it is the kernel finds its root
 * (FUSE_NOTIFY_INVAL_INODE, fuse_reverse_inval_inode of fs/fuse/inode.c). It drops the root's attributes, so that they are asked for again.
 */
export function hasMount(device: number): boolean {
  try {
    writeSync(device, invalidation(ROOT_ID, -1))
    return true
  } catch (error) {
    return systemCode(error) !== 'ENOENT'
  }
}

/**
 * Has the kernel send again, with bit 63 of `unique` set, every request that was read and not answered (FUSE_NOTIFY_RESEND,
 * Linux 6.9). Once for each successor, when its predecessor is surely dead: every call sends all of them.
 */
export function requestResend(device: number): void {
  writeSync(device, makeMessage(0, notifyCodes.RESEND, 0n).buffer)
}
