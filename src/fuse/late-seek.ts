/**
 * The answer to an LSEEK of a file that is open for writing.
 * The kernel sends SEEK_DATA and SEEK_HOLE without writing its dirty pages back first (fuse_lseek of fs/fuse/file.c, Linux 6.18:
 * 4 KiB just written into a sparse file were reported as a hole): `cp` of such a file would lose them.
 * Keeps: the pages that were dirty when the request came have been served before it is answered.
 * Leaves: serving those WRITEs to the session's thread, which must not be the one that runs this; the search to the caller.
 */
import { write, writeSync } from 'node:fs'
import { promisify } from 'node:util'
import { ErrnoError, errorTable, systemCode } from '../base/index.ts'
import type { Nodeid } from '../base/index.ts'
import { invalidation, makeMessage } from './notify.ts'
import { lseekOut, outHeader } from './wire.ts'

/** An LSEEK that the session has not answered. */
export interface LateSeek {
  /** As the kernel sent it, resend bit included. */
  readonly unique: bigint
  readonly nodeid: Nodeid
  readonly offset: number
  readonly target: 'data' | 'hole'
}

const writeDevice = promisify(write)

/**
 * Has the kernel write the dirty pages of the file back and drop its cache (FUSE_NOTIFY_INVAL_INODE; fsync(2) would wait for the
 * inode's lock, which the seeking process holds), then answers with what `find` returns or throws.
 * `device` is the session's descriptor. Throws what the device throws: ENODEV when the mount is gone.
 */
export async function answerLateSeek(device: number, seek: LateSeek, find: () => number): Promise<void> {
  try {
    await writeDevice(device, invalidation(seek.nodeid, 0))
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error // ENOENT: the kernel holds nothing of it
  }
  writeSync(device, answer(seek.unique, find))
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
