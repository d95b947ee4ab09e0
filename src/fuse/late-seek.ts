/**
 * The answer to an LSEEK of a file that is open for writing.
 * The kernel sends SEEK_DATA and SEEK_HOLE without writing its dirty pages back first (fuse_lseek of fs/fuse/file.c, Linux 6.18:
 * 4 KiB just written into a sparse file were reported as a hole): `cp` of such a file would lose them.
 * Keeps: the pages that were dirty when the request came have been served before it is answered; no thread of this process waits
 *   for that in the kernel.
 * Leaves: serving those WRITEs to the session's thread, which must not be the one that runs this; the search to the caller.
 */
import { spawn } from 'node:child_process'
import { writeSync } from 'node:fs'
import { ErrnoError, errorTable } from '../base/index.ts'
import type { Nodeid } from '../base/index.ts'
import { inOctal, invalidation, makeMessage } from './notify.ts'
import { lseekOut, outHeader } from './wire.ts'

/** An LSEEK that the session has not answered. */
export interface LateSeek {
  /** As the kernel sent it, resend bit included. */
  readonly unique: bigint
  readonly nodeid: Nodeid
  readonly offset: number
  readonly target: 'data' | 'hole'
}

/**
 * Has the kernel write the dirty pages of the file back and drop its cache (FUSE_NOTIFY_INVAL_INODE; fsync(2) would wait for the
 * inode's lock, which the seeking process holds), then answers with what `find` returns or throws.
 * `device` is the session's descriptor. Throws what the device throws: ENODEV when the mount is gone.
 */
export async function answerLateSeek(device: number, seek: LateSeek, find: () => number): Promise<void> {
  await notifyApart(device, invalidation(seek.nodeid, 0))
  writeSync(device, answer(seek.unique, find))
}

/**
 * Writes a notification from another process. The kernel waits in it, uninterruptibly, for WRITEs that this process serves: a
 * thread that did so would keep this process from ending when it is killed, and its successor from beginning. That the kernel
 * holds nothing of the inode is no failure, and that the mount is gone shows at the next write.
 */
async function notifyApart(device: number, message: Buffer): Promise<void> {
  const child = spawn('sh', ['-c', `printf '${inOctal(message)}' >&3`], { stdio: ['ignore', 'ignore', 'ignore', device] })
  const { promise, resolve, reject } = Promise.withResolvers<undefined>()
  child.once('error', reject)
  child.once('exit', () => {
    resolve(undefined)
  })
  await promise
}

function answer(unique: bigint, find: () => number): Buffer {
  try {
    const offset = find()
    const { buffer, view } = makeMessage(lseekOut.size, 0, unique)
    lseekOut.encode(view, outHeader.size, { offset })
    return buffer
  } catch (error) {
    return makeMessage(0, -errorTable[error instanceof ErrnoError ? error.code : 'EIO'].errno, unique).buffer
  }
}
