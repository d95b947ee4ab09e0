/**
 * The kernel's control files of FUSE connections: /sys/fs/fuse/connections, a filesystem of its own (fusectl).
 * Keeps: never throws, so that it can be the last resort of a clean-up.
 * Leaves: finding a connection's number to mount.ts (`deviceNumber`).
 */
import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { listMounts } from './mountinfo.ts'

const CONNECTIONS = '/sys/fs/fuse/connections'
const MOUNT_TIMEOUT_MS = 5_000

/**
 * Ends the FUSE connection whose mount has device number 0:`minor`: every waiting and later request fails with ENOTCONN,
 * and the session's read ends with ENODEV. Mounts fusectl when it is not there. Returns whether it could: false when
 * there is no such connection or /sys is read-only.
 */
export function abortConnection(minor: number): boolean {
  const file = `${CONNECTIONS}/${minor}/abort`
  if (!existsSync(file)) mountControl()
  try {
    // `r+` does not create: without the connection the write must fail.
    writeFileSync(file, '1', { flag: 'r+' })
    return true
  } catch {
    return false
  }
}

function mountControl(): void {
  if (listMounts().some((mount) => mount.mountpoint === CONNECTIONS)) return
  spawnSync('mount', ['-i', '-t', 'fusectl', 'fusectl', CONNECTIONS], { stdio: 'ignore', timeout: MOUNT_TIMEOUT_MS })
}
