/**
 * A volume file that is not mounted: settled, looked at, exported as it lies.
 * Keeps: it is one whole file before anything is said about it.
 * Leaves: mounted volumes to volume.ts.
 */
import { existsSync } from 'node:fs'
import { ErrnoError } from '../base/index.ts'
import { Owner, readVolumeState } from '../engine/index.ts'
import type { StateReport } from '../mount/messages.ts'
import type { HeldSnapshot } from './lease.ts'
import { ownerTimeoutMs } from './options.ts'
import { settle } from './settle.ts'

/** The unit in which the file is read: any page size that divides SQLite's will do when there are no WAL frames. */
const unitBytes = 512

/** The state of the settled file. Throws EBUSY when somebody else has it open, EIO, `volume_missing` when it is not there. */
export async function readSettledState(file: string): Promise<StateReport> {
  if (!existsSync(file)) {
    const hint = 'put it back, or delete the volume'
    throw new ErrnoError('EIO', `volume file ${file}: does not exist`, { problem: 'volume_missing', hint })
  }
  await settle(file, ownerTimeoutMs)
  return readVolumeState(file)
}

/** The file as it lies as a snapshot. Nobody holds it, but every read sees whether it was changed: who mounts the file must have the FUSE process hold it. */
export async function holdFile(file: string): Promise<HeldSnapshot> {
  const { bytesTag, sizeBytes } = await readSettledState(file)
  return {
    file,
    bytesTag,
    pageSize: unitBytes,
    pageCount: sizeBytes / unitBytes,
    walFrames: 0,
    isHeld: () => true,
    release: () => Promise.resolve(),
  }
}

/** The ownership of a file that nobody has open; undefined when there is no file. Throws EBUSY. */
export async function acquireIfThere(file: string): Promise<Owner | undefined> {
  try {
    return await Owner.acquire(file, 0)
  } catch (error) {
    if (error instanceof ErrnoError && error.code === 'ENOENT') return undefined
    throw error
  }
}

/** What a failed start of the volume `id` is: a file that is not there is damage, not a wrong request. */
export function explainStart(id: string, error: unknown): unknown {
  if (!(error instanceof ErrnoError) || error.code !== 'ENOENT') return error
  return new ErrnoError('EIO', `volume ${id}: ${error.message}`, {
    cause: error,
    problem: 'volume_missing',
    hint: 'put its file back, or delete the volume',
  })
}
