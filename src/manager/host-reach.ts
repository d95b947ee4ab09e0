/**
 * Whether mounts below the mount root reach the host of this container: proven with a test mount.
 * Keeps: the test mount is gone when this returns, at the host too; it is never served, so whoever meets it gets an error and no hang.
 * Leaves: what is to be done where there is no other host to mount-root.ts.
 *
 * How a mount that is only shared with itself is told: of a test mount in a shared folder each peer gets a copy, and all copies are
 * peers of each other. Ours is made a slave; mount(2), MS_SLAVE: without other members in its group it becomes private instead.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { ErrnoError, messageOf, type Logger } from '../base/index.ts'
import { findMount, mountFuse, openFuseDevice, type MountInfo } from '../fuse/mount.ts'
import { holderOf, isShared, makeMountRoot } from './mount-root.ts'
import { clearMountpoint } from './mountpoints.ts'
import type { ManagerOptions } from './options.ts'

/** mount(8) of a propagation waits for nobody; more than this means that something is stuck. */
const mountTimeoutMs = 10_000

/** The folders of a manager, absolute (ManagerOptions). */
export type Roots = Pick<ManagerOptions, 'mountRoot' | 'hostMountRoot' | 'dataRoot'>

/** Asserts that what is bound at the mount root passes mounts on. Throws EINVAL with the flag that is missing. */
export function assertShared({ mountRoot, hostMountRoot }: Roots): void {
  makeMountRoot(mountRoot)
  const holder = holderOf(mountRoot)
  if (isShared(holder) && holder?.mountpoint !== '/') return
  const flag = `-v ${hostMountRoot}:${mountRoot}:rshared`
  throw new ErrnoError('EINVAL', `mount root ${mountRoot}: ${describe(holder)}`, { hint: `give the container ${flag}` })
}

/** Mounts in the mount root and looks whether anybody else has got that mount. Throws ENOTCONN with what to do at the host, EPERM. */
export async function assertReachesHost({ mountRoot, hostMountRoot, dataRoot }: Roots, log: Logger): Promise<void> {
  const probe = join(mountRoot, '.preflight') // one name, so that what a killed start left is cleared here
  await clearMountpoint(probe, log)
  mkdirSync(probe, { recursive: true, mode: 0o700 })
  try {
    mountTest(probe, join(dataRoot, 'preflight'))
    makeSlave(probe)
    if (findMount(probe)?.propagation === 'slave') return
  } finally {
    await clearMountpoint(probe, log)
  }
  const cure = `mount --bind ${hostMountRoot} ${hostMountRoot} && mount --make-rshared ${hostMountRoot}`
  throw new ErrnoError(
    'ENOTCONN',
    `mount root ${mountRoot}: a test mount in it reached nobody: the folder is no shared mount of the host`,
    {
      hint: `on the host: ${cure}; then make the container anew`,
    },
  )
}

/**
 * Whether `hostMountRoot` can be what is bound at the mount root, as far as mountinfo tells: it has the path within the host's
 * filesystem, which need not be mounted at its own /. Returns that path when the two cannot be the same.
 */
export function findOtherRoot({ mountRoot, hostMountRoot }: Roots): string | undefined {
  const holder = holderOf(mountRoot)
  if (holder === undefined) return undefined
  const bound = join(holder.root, mountRoot.slice(holder.mountpoint.length)).replace(/\/$/, '')
  return bound.endsWith(hostMountRoot) || hostMountRoot.endsWith(bound) ? undefined : bound
}

function describe(holder: MountInfo | undefined): string {
  if (holder === undefined || holder.mountpoint === '/') return 'nothing of the host is bound there, so mounts would stay in this container'
  if (holder.propagation === 'slave') return "is a slave of the host's (rslave): mounts of the host come in, none goes out"
  return 'is bound without propagation, so mounts would stay in this container'
}

/** The connection ends at once: an access is ENOTCONN from then on. */
function mountTest(probe: string, source: string): void {
  const fd = openFuseDevice()
  try {
    mountFuse(fd, { source, mountpoint: probe, readOnly: true })
  } finally {
    closeSync(fd)
  }
}

function makeSlave(probe: string): void {
  const env = { ...process.env, LC_ALL: 'C' }
  try {
    // `-c`: mount(8) would otherwise stat the mountpoint.
    execFileSync('mount', ['-c', '--make-slave', '--', probe], { stdio: ['ignore', 'ignore', 'pipe'], timeout: mountTimeoutMs, env })
  } catch (cause) {
    throw new ErrnoError('EIO', `mount --make-slave ${probe}: ${messageOf(cause).trim()}`, { cause })
  }
}
