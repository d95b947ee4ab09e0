/**
 * The mountpoints of one manager: an empty directory MOUNT_ROOT/ID per mounted volume.
 * Keeps: a mountpoint exists only while its volume is mounted; what is not ours (another filesystem, files) is left alone.
 *   No mountpoint is touched with stat(2): one that nobody serves would hang us.
 * Leaves: mounting to the FUSE process, sharing of the mount root to mount-root.ts.
 */
import { mkdirSync, readdirSync, rmdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ErrnoError, messageOf, systemCode, type Logger } from '../base/index.ts'
import { findMount, listMounts, unmountFuse } from '../fuse/mount.ts'
import { Keeper } from './keeper.ts'
import type { ManagerOptions } from './options.ts'

/** The type that findmnt shows for our mounts. */
const fstype = 'fuse.litevol'

/** The most mounts at one mountpoint that are cleared: each is one more crash without a clean-up between. */
const maxStacked = 16

/** How often rmdir(2) is tried while the kernel lets go of a lazily unmounted directory, and how long between, in ms. */
const removeAttempts = 20
const removePauseMs = 25

/** The folders of a manager, absolute (ManagerOptions). */
type Roots = Pick<ManagerOptions, 'mountRoot' | 'dataRoot' | 'runRoot'>

/** Makes the directory. Throws EBUSY when something is mounted on it. */
export function makeMountpoint(mountpoint: string): void {
  const mount = findMount(mountpoint)
  if (mount !== undefined) throw new ErrnoError('EBUSY', `mountpoint ${mountpoint}: ${mount.fstype} of ${mount.source} is mounted there`)
  try {
    mkdirSync(mountpoint, { recursive: true, mode: 0o755 })
  } catch (cause) {
    throw new ErrnoError('EIO', `mountpoint ${mountpoint}: cannot be made: ${messageOf(cause)}`, { cause })
  }
}

/** Whether the volume mounted there refuses changes, by the flags of the filesystem or of the mount; null when none is mounted. */
export function isMountReadOnly(mountpoint: string): boolean | null {
  const mount = findMount(mountpoint)
  return mount?.fstype === fstype ? mount.superOptions.includes('ro') || mount.options.includes('ro') : null
}

/** Detaches whatever of ours is still mounted there and removes the directory; a directory with files in it stays. */
export async function clearMountpoint(mountpoint: string, log: Logger): Promise<void> {
  for (let i = 0; i < maxStacked && findMount(mountpoint)?.fstype === fstype; i++) await unmountFuse(mountpoint, { lazy: true })
  await removeDirectory(mountpoint, log)
}

/**
 * Clears what an earlier manager of this data root left below the mount root, but for what is served still, by the run folders of
 * `runRoot`; mounts of other volume files are somebody else's. Returns how many mounts and directories that were.
 */
export async function clearStaleMountpoints({ mountRoot, dataRoot, runRoot }: Roots, log: Logger): Promise<number> {
  const isServed = (mountpoint: string): boolean => Keeper.find(join(runRoot, basename(mountpoint))) !== undefined
  const below = listMounts().filter((mount) => mount.mountpoint.startsWith(`${mountRoot}/`))
  const stale = below.filter((mount) => mount.fstype === fstype && mount.source.startsWith(`${dataRoot}/`) && !isServed(mount.mountpoint))
  const ours = new Set(stale.map((mount) => mount.mountpoint))
  for (const mountpoint of ours) await clearMountpoint(mountpoint, log)
  const taken = new Set(below.map((mount) => mount.mountpoint))
  const left = readdirSync(mountRoot)
    .filter(isVolumeId)
    .map((name) => join(mountRoot, name))
    .filter((mountpoint) => !taken.has(mountpoint))
  for (const mountpoint of left) await removeDirectory(mountpoint, log)
  return ours.size + left.length
}

/** Whether a name is one that we give to volumes. */
function isVolumeId(name: string): boolean {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(name)
}

async function removeDirectory(mountpoint: string, log: Logger): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      rmdirSync(mountpoint)
      return
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return
      if (systemCode(error) !== 'EBUSY' || attempt === removeAttempts) {
        log.warn({ err: error, mountpoint }, 'the mountpoint stays')
        return
      }
    }
    await sleep(removePauseMs)
  }
}
