/**
 * What the fields of a create call mean.
 * Keeps: the same call by HTTP and by the volume plugin makes the same volume.
 * Leaves: their form to schemas.ts, making the volume to manager.
 */
import type { Static } from 'typebox'
import { ErrnoError } from '../base/index.ts'
import type { VolumeManager, VolumeSummary } from '../manager/index.ts'
import type { CreateBody } from './schemas.ts'

/** Throws ENOSYS for what is not supported yet, EINVAL, EEXIST `name_taken`, ENOSPC. */
export function createVolume(manager: VolumeManager, body: Static<typeof CreateBody>, who: string): VolumeSummary {
  const { name, uid = 0, gid = 0, mode = 0o755, encrypted = false, pin } = body
  if (encrypted || pin !== undefined) throw new ErrnoError('ENOSYS', 'encrypted volumes: not supported yet')
  return manager.create(name, { uid, gid, mode: parseMode(mode) }, who)
}

/** Octal digits as chmod(1) takes them, or the number itself. */
function parseMode(mode: string | number): number {
  const bits = typeof mode === 'number' ? mode : Number.parseInt(mode, 8)
  if (bits > 0o7777) throw new ErrnoError('EINVAL', 'body mode: must be at most 7777')
  return bits
}
