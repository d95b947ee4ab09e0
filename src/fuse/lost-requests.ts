/**
 * EIO for requests that a dead predecessor has read and that nobody can serve any more, for kernels that cannot send them again.
 * Keeps: a request that is queued and not yet read is not hit: the kernel looks for the request of an answer among those only that
 *   it has handed out (request_find in fuse_dev_do_write of fs/fuse/dev.c), and says ENOENT for all others.
 * Leaves: knowing which numbers such a request may have to src/mount/lost-requests.ts.
 */
import { writeSync } from 'node:fs'
import { errorTable, systemCode } from '../base/index.ts'
import { makeMessage } from './notify.ts'
import { UNIQUE_AT } from './wire.ts'

/** The kernel numbers requests in steps of this (FUSE_REQ_ID_STEP of fs/fuse/dev.c), in the order in which it hands them out. */
export const requestStep = 2

/**
 * Answers EIO to each request with a number from `first` to `last` that was read and is not answered; returns how many there were.
 * None of them may be in the caller's own hands. `device` is the session's descriptor; nothing is thrown when the mount is gone.
 */
export function refuseRequests(device: number, first: number, last: number): number {
  const { buffer, view } = makeMessage(0, -errorTable.EIO.errno, 0n)
  let refused = 0
  for (let request = first; request <= last; request += requestStep) {
    view.setBigUint64(UNIQUE_AT, BigInt(request), true)
    const code = tryWrite(device, buffer)
    if (code === undefined) refused++
    else if (code !== 'ENOENT') break // ENODEV: the mount is gone, and with it who waited
  }
  return refused
}

/** Returns the code of the failure, or undefined. */
function tryWrite(device: number, message: Buffer): string | undefined {
  try {
    writeSync(device, message)
    return undefined
  } catch (error) {
    return systemCode(error) ?? 'EIO'
  }
}
