/**
 * Opens `/dev/fuse`, mounts it with mount(8), unmounts with umount(8); re-exports what else the manager needs of mounts.
 * Keeps: no function stats a mountpoint; source and mountpoint reach mount(8) as they are, whatever they contain.
 * Leaves: serving the descriptor to session.ts, the dirty limit to dirty-limit.ts.
 */
import { execFile, spawnSync } from 'node:child_process'
import { constants, openSync } from 'node:fs'
import { promisify } from 'node:util'
import { ErrnoError, messageOf, systemCode } from '../base/index.ts'
import { findMount } from './mountinfo.ts'
import { MAX_WRITE } from './negotiate.ts'

export { abortConnection } from './connections.ts'
export { escapeMountinfo, findMount, listMounts, parseMountinfo } from './mountinfo.ts'
export type { MountInfo } from './mountinfo.ts'
export { loadAddon } from './native/addon.ts'

/** The filesystem type that findmnt shows. */
export const FSTYPE = 'fuse.litevol'

const DEVICE = '/dev/fuse'
/** The descriptor's number in the child that runs mount(8). */
const CHILD_FD = 3
/** How long mount(8) may take, in ms. mount(2) of a FUSE filesystem waits for nobody. */
const MOUNT_TIMEOUT_MS = 10_000
/** mount(8) would resolve a source of this form as a tag of a block device. */
const tagSource = /^(LABEL|UUID|PARTLABEL|PARTUUID|ID)=/

/** What to mount. */
export interface MountOptions {
  /** What findmnt shows as the source; any text without NUL. A source like `LABEL=x` is shown as `./LABEL=x`. */
  readonly source: string
  /** An existing directory: absolute, without symlinks. */
  readonly mountpoint: string
  readonly readOnly: boolean
  /** The largest READ in bytes; default 1 MiB. */
  readonly maxRead?: number
  /** More options for `-o`: `nodev`, `noatime`. Without commas inside. */
  readonly extraOptions?: readonly string[]
}

/** How to unmount. */
export interface UnmountOptions {
  /** Detach at once (MNT_DETACH), end when the last user is gone; default false. */
  readonly lazy?: boolean
  /** Abort the FUSE connection first (MNT_FORCE): waiting requests fail; default false. */
  readonly force?: boolean
}

/** Opens `/dev/fuse` for reading and writing; the descriptor is the caller's to close. Throws ENODEV when there is no such
 *  device, EACCES when it may not be opened, both with a hint. */
export function openFuseDevice(): number {
  try {
    return openSync(DEVICE, constants.O_RDWR)
  } catch (cause) {
    throw explainOpen(cause)
  }
}

function explainOpen(cause: unknown): ErrnoError {
  const code = systemCode(cause)
  if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') {
    const hint = 'load the kernel module (modprobe fuse); give a container the device with --device /dev/fuse'
    return new ErrnoError('ENODEV', `${DEVICE}: not there`, { hint, cause })
  }
  if (code === 'EACCES' || code === 'EPERM') {
    const hint = 'run as root; give a container --device /dev/fuse and --cap-add SYS_ADMIN'
    return new ErrnoError('EACCES', `${DEVICE}: may not be opened`, { hint, cause })
  }
  return new ErrnoError('EIO', `${DEVICE}: ${messageOf(cause)}`, { cause })
}

/** Mounts the FUSE connection of descriptor `fd`. Returns when it is mounted; requests are then answered by whoever serves
 *  `fd`. Throws EPERM without CAP_SYS_ADMIN, ENOENT without the mountpoint, EBUSY when `fd` is mounted already, else EIO. */
export function mountFuse(fd: number, options: MountOptions): void {
  const source = tagSource.test(options.source) ? `./${options.source}` : options.source
  const args = ['-i', '-c', '-t', FSTYPE, '-o', optionsOf(options), '--', source, options.mountpoint]
  const run = spawnSync('mount', args, {
    stdio: ['ignore', 'pipe', 'pipe', fd],
    env: { ...process.env, LC_ALL: 'C' },
    encoding: 'utf8',
    timeout: MOUNT_TIMEOUT_MS,
  })
  if (run.error !== undefined) throw new ErrnoError('EIO', `mount ${options.mountpoint}: ${run.error.message}`, { cause: run.error })
  if (run.status !== 0) throw explainMount(options.mountpoint, run.stderr.trim())
}

function optionsOf({ readOnly, maxRead = MAX_WRITE, extraOptions = [] }: MountOptions): string {
  const identity = [`fd=${CHILD_FD}`, 'rootmode=40000', 'user_id=0', 'group_id=0']
  const options = [...identity, 'allow_other', 'default_permissions', `max_read=${maxRead}`, ...extraOptions]
  return (readOnly ? [...options, 'ro'] : options).join(',')
}

function explainMount(mountpoint: string, stderr: string): ErrnoError {
  const message = `mount ${mountpoint}: ${stderr === '' ? 'mount(8) failed without a word' : stderr}`
  if (/must be superuser|permission denied|not permitted/.test(stderr)) {
    return new ErrnoError('EPERM', message, {
      hint: 'run with CAP_SYS_ADMIN (a container: --cap-add SYS_ADMIN --security-opt apparmor=unconfined)',
    })
  }
  if (/does not exist|No such file/.test(stderr)) return new ErrnoError('ENOENT', message)
  if (/busy/.test(stderr)) return new ErrnoError('EBUSY', message)
  if (/not a directory/.test(stderr)) return new ErrnoError('ENOTDIR', message)
  return new ErrnoError('EIO', message)
}

const execute = promisify(execFile)

/** umount(8) without descriptor 3, where libfuse may have the device: who waits on a mount must not hold it. */
const umount = 'exec 3<&-; exec umount "$@"'

/** Unmounts `mountpoint` (absolute, without symlinks) in another process, so that the caller's thread stays responsive:
 *  umount(2) waits for dirty pages to be served. Throws EBUSY when it is in use, EINVAL when nothing is mounted there,
 *  EPERM without CAP_SYS_ADMIN, else EIO. */
export async function unmountFuse(mountpoint: string, { lazy = false, force = false }: UnmountOptions = {}): Promise<void> {
  // `-c`: umount(8) would otherwise stat the mountpoint, and hang where nobody serves it.
  const flags = ['-i', '-c', ...(lazy ? ['-l'] : []), ...(force ? ['-f'] : [])]
  try {
    await execute('sh', ['-c', umount, 'umount', ...flags, '--', mountpoint], { env: { ...process.env, LC_ALL: 'C' } })
  } catch (cause) {
    throw explainUnmount(mountpoint, cause)
  }
}

function explainUnmount(mountpoint: string, cause: unknown): ErrnoError {
  const stderr = stderrOf(cause)
  const message = `umount ${mountpoint}: ${stderr === '' ? messageOf(cause) : stderr}`
  if (/busy/.test(stderr)) return new ErrnoError('EBUSY', message, { cause })
  if (/must be superuser|not permitted/.test(stderr)) return new ErrnoError('EPERM', message, { cause })
  if (findMount(mountpoint) === undefined)
    return new ErrnoError('EINVAL', `umount ${mountpoint}: not mounted`, { cause, problem: 'not_mounted' })
  return new ErrnoError('EIO', message, { cause })
}

function stderrOf(error: unknown): string {
  return error instanceof Error && 'stderr' in error && typeof error.stderr === 'string' ? error.stderr.trim() : ''
}

/** The device number of what is mounted at `mountpoint`, without touching it. Its `minor` names the FUSE connection under
 *  /sys/fs/fuse/connections. Throws EINVAL when nothing is mounted there. */
export function deviceNumber(mountpoint: string): { readonly major: number; readonly minor: number } {
  const mount = findMount(mountpoint)
  if (mount === undefined) throw new ErrnoError('EINVAL', `${mountpoint}: not mounted`, { problem: 'not_mounted' })
  return { major: mount.major, minor: mount.minor }
}
