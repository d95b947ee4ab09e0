/**
 * `litevol mount -o remount,… FILE MOUNTPOINT`: what mount(8) calls its helper for on `mount -o remount,…`.
 * Keeps: only flags of the mount change, ro and rw among them; the FUSE process is not asked and goes on.
 * Leaves: the rules (EBUSY while a file is open for writing) to the kernel, as for every filesystem.
 */
import { spawnSync } from 'node:child_process'
import { ErrnoError } from '../base/index.ts'
import type { MountOptions } from './mount-options.ts'

/** Replaces the flags of the mount. Throws EBUSY, EIO with what mount(8) says. */
export function remount(file: string, mountpoint: string, { isReadOnly, kernel }: MountOptions): void {
  const words = ['remount', isReadOnly ? 'ro' : 'rw', ...kernel]
  const run = spawnSync('mount', ['-i', '-t', 'fuse.litevol', '-o', words.join(','), '--', file, mountpoint], {
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
    // libmount 2.39 and later uses fsconfig(2), by which FUSE refuses to be remounted (util-linux issue 2576).
    env: { ...process.env, LC_ALL: 'C', LIBMOUNT_FORCE_MOUNT2: 'always' },
  })
  if (run.error !== undefined) throw new ErrnoError('EIO', `mount: cannot be started: ${run.error.message}`, { cause: run.error })
  if (run.status === 0) return
  const reason = run.stderr.trim().split('\n')[0] ?? ''
  const message = `remount ${mountpoint}: ${reason === '' ? `mount(8) ended with ${String(run.status)}` : reason}`
  throw new ErrnoError(/busy/.test(reason) ? 'EBUSY' : 'EIO', message)
}
