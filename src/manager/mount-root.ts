/**
 * The folder of the mountpoints as a shared mount, so that mounts below it reach other containers.
 * Keeps: what is shared already is not touched; no second bind is stacked on the first; a stop undoes only what this run made.
 * Leaves: the mountpoints in it to mountpoints.ts.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, realpathSync } from 'node:fs'
import { ErrnoError, messageOf } from '../base/index.ts'
import { findMount, listMounts, type MountInfo } from '../fuse/mount.ts'

/** mount(8) of a bind waits for nobody; more than this means that something is stuck. */
const mountTimeoutMs = 10_000

/** What was done to share the mount root: `nothing` was needed, a `bind` was made. */
export type Sharing = 'nothing' | 'shared' | 'bind'

/** Makes the folder, and the mount that holds it a shared one. Throws EACCES, EIO with what mount(8) says. */
export function shareMountRoot(mountRoot: string): Sharing {
  makeMountRoot(mountRoot)
  if (isShared(holderOf(mountRoot))) return 'nothing'
  const isMount = findMount(mountRoot) !== undefined
  if (!isMount) run('mount', ['--bind', '--', mountRoot, mountRoot], mountRoot)
  run('mount', ['--make-rshared', '--', mountRoot], mountRoot)
  return isMount ? 'shared' : 'bind'
}

/** Undoes a `bind`, when nothing is mounted below the mount root. */
export function unshareMountRoot(mountRoot: string, sharing: Sharing): void {
  if (sharing !== 'bind' || listMounts().some((mount) => mount.mountpoint.startsWith(`${mountRoot}/`))) return
  run('umount', ['-c', '--', mountRoot], mountRoot)
}

/** The mount that a path is on: the one with the longest mountpoint that holds it; of two at one place the later. */
export function holderOf(path: string): MountInfo | undefined {
  const holds = ({ mountpoint }: MountInfo): boolean => mountpoint === '/' || `${path}/`.startsWith(`${mountpoint}/`)
  return listMounts()
    .filter(holds)
    .reduce<MountInfo | undefined>(
      (best, mount) => (best !== undefined && best.mountpoint.length > mount.mountpoint.length ? best : mount),
      undefined,
    )
}

/** Whether mounts below it are passed on. */
export function isShared(mount: MountInfo | undefined): boolean {
  return mount?.propagation === 'shared' || mount?.propagation === 'shared-slave'
}

/** Makes the folder. Throws EACCES, and EINVAL when it is behind a symbolic link. */
export function makeMountRoot(mountRoot: string): void {
  try {
    mkdirSync(mountRoot, { recursive: true, mode: 0o755 })
  } catch (cause) {
    throw new ErrnoError('EACCES', `mount root ${mountRoot}: cannot be made: ${messageOf(cause)}`, { cause })
  }
  if (realpathSync(mountRoot) !== mountRoot) {
    throw new ErrnoError('EINVAL', `mount root ${mountRoot}: is ${realpathSync(mountRoot)} behind a symbolic link`, {
      hint: 'name that one',
    })
  }
}

function run(command: string, args: readonly string[], mountRoot: string): void {
  try {
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'], timeout: mountTimeoutMs, env: { ...process.env, LC_ALL: 'C' } })
  } catch (cause) {
    throw new ErrnoError('EIO', `mount root ${mountRoot}: ${messageOf(cause).trim()}`, { cause })
  }
}
