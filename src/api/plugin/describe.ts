/**
 * A volume in the form of the volume plugin protocol; `docker volume inspect` shows what Get says.
 * Keeps: a figure that cannot be had in time is left out, so that a volume that is busy or broken can still be looked at and removed.
 * Leaves: the figures to manager.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../../base/index.ts'
import type { VolumeManager, VolumeSummary } from '../../manager/index.ts'

/** As List shows it. `Mountpoint` is empty while it is not mounted. */
export interface VolumeBrief {
  readonly Name: string
  readonly Mountpoint: string
  /** RFC 3339. */
  readonly CreatedAt: string
}

/** How long a figure may take, in ms: an engine asks several times before it starts a container. */
const figuresTimeoutMs = 2000

export function describeBriefly({ name, hostPath, createdAt }: VolumeSummary): VolumeBrief {
  return { Name: name, Mountpoint: hostPath ?? '', CreatedAt: createdAt }
}

/** As Get shows it. */
export async function describeWithFigures(
  manager: VolumeManager,
  volume: VolumeSummary,
): Promise<VolumeBrief & { readonly Status: object }> {
  const { id, state, attachments, encrypted, persist } = volume
  const [figures, mount] = await Promise.all([findInTime(readFigures(manager, id)), findInTime(readMount(manager, id))])
  return { ...describeBriefly(volume), Status: { id, state, ...figures, ...mount, encrypted, persist: persist !== null, attachments } }
}

async function readFigures(manager: VolumeManager, id: string): Promise<object> {
  try {
    const { sizeBytes, mtime, change } = await manager.stat(id)
    return { size_bytes: sizeBytes, mtime: new Date(mtime.sec * 1000 + mtime.nsec / 1e6).toISOString(), change }
  } catch (error) {
    return { error: messageOf(error) }
  }
}

async function readMount(manager: VolumeManager, id: string): Promise<object> {
  const { state, readOnly, driver, handles, restarts, reason } = await manager.status(id)
  if (state === 'failed') return { reason }
  return state === 'mounted' ? { read_only: readOnly, driver, handles, restarts } : {}
}

function findInTime(figures: Promise<object>): Promise<object> {
  return Promise.race([figures, sleep(figuresTimeoutMs, {}, { ref: false })])
}
