/**
 * Whether a sync of the WAL has failed. The kernel reports lost pages once and then takes them for written
 * (https://wiki.postgresql.org/wiki/Fsync_Errors): a later sync that succeeds would promise what is not there.
 * Keeps: whoever syncs the WAL tells, and asks before it promises. Leaves: how threads and processes share it to the caller.
 */
import { ErrnoError } from '../base/index.ts'

export interface LostSync {
  readonly isSet: boolean
  /** A sync has failed: from now on none may succeed, until the volume is mounted anew. */
  set(): void
}

/** One for a single connection. */
export function ownLostSync(): LostSync {
  let isSet = false
  return {
    get isSet() {
      return isSet
    },
    set() {
      isSet = true
    },
  }
}

/** What a sync answers that failed, or that comes after one that did. */
export function lostSyncError(file: string, cause?: unknown): ErrnoError {
  const hint = 'mount the volume anew when the disk works again'
  return new ErrnoError('EIO', `volume file ${file}: its WAL could not be synced`, { hint, cause })
}
