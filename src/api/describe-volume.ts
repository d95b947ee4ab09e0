/** A volume in the form of replies. */
import type { VolumeSummary } from '../manager/index.ts'
import type { VolumeBody } from './schemas.ts'

export function describeVolume({
  id,
  name,
  createdAt,
  encrypted,
  state,
  mountpoint,
  hostPath,
  persist,
  attachments,
}: VolumeSummary): VolumeBody {
  const mounted = state === 'mounted'
  return {
    id,
    name,
    created_at: createdAt,
    encrypted,
    mounted,
    state,
    mountpoint,
    host_path: hostPath,
    persist: persist !== null,
    attachments: [...attachments],
  }
}
