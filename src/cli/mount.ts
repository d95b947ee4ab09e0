/**
 * `litevol mount FILE MOUNTPOINT`: one volume file served without a manager, in the foreground or in the background.
 * Keeps: in the foreground the FUSE process lives as long as this command, and the command as long as it: if this one dies it
 *   unmounts. In the background this command ends when the mount serves, and the FUSE process when it is unmounted.
 * Leaves: starting and replacing FUSE processes to the keeper; the words of -o to mount-options.ts.
 */
import { spawnSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { existsSync, realpathSync, rmSync, statSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { ErrnoError, messageOf, systemCode, type DriverName, type LogLevel } from '../base/index.ts'
import { createVolumeFile } from '../engine/index.ts'
import { settings } from '../config.ts'
import { Keeper, wantsLowLatency, type StartWish } from '../main.ts'
import { exitCodes } from './exit-codes.ts'
import { openLogFile, openSyslog, type LogOutput } from './log-output.ts'
import type { MountOptions } from './mount-options.ts'
import { remount } from './remount.ts'

export interface MountFlags extends Omit<MountOptions, 'driver'> {
  readonly isBackground: boolean
  readonly driver: DriverName
  readonly logLevel: LogLevel
}

/**
 * How long to wait for another owner of the file that is finishing, in ms: umount(8) returns before the checkpoint of what was
 * written last. Less than the 90 s that systemd gives to a line of fstab.
 */
const ownerTimeoutMs = 60_000

/** Mounts and serves; resolves with the exit code when the mount is gone, in the background when it serves. Throws ENOENT, ENOTDIR, EEXIST, EINVAL. */
export async function mountFile(file: string, mountpoint: string, flags: MountFlags): Promise<number> {
  if (flags.isRemount) {
    remount(file, mountpoint, flags)
    return exitCodes.ok
  }
  const { create, isReadOnly, isBackground, lowLatency, log, kernel, driver, logLevel } = flags
  if (create && isReadOnly) throw new ErrnoError('EINVAL', '--create makes no sense with --read-only')
  const wish: StartWish = {
    file: findReal(file),
    source: isBackground ? resolve(file) : file,
    mountpoint: findDirectory(mountpoint),
    readOnly: isReadOnly,
    mountOptions: kernel,
    driver,
    runFolder: join(runRoot(), `mount-${String(process.pid)}-${String(randomInt(2 ** 32))}`),
    hasLeash: !isBackground,
    logLevel,
    holdSnapshot: false,
    snapshotWalLimit: 0,
    isLowLatency: wantsLowLatency(lowLatency),
    ownerTimeoutMs,
  }
  assertOutside(wish)
  const logFile = log === undefined ? undefined : openLogFile(log)
  if (create) createVolumeFile(wish.file)
  return serve(wish, mountpoint, logFile)
}

/** Where mounts have their run folders: the manager's setting counts here too. */
function runRoot(): string {
  const { env, default: usual } = settings.runRoot
  return process.env[env] ?? usual
}

/** Without a `log`: this command's standard error, or in the background syslog. */
async function serve(wish: StartWish, mountpoint: string, log: number | undefined): Promise<number> {
  const isBackground = !wish.hasLeash
  const output: LogOutput = log ?? (isBackground ? openSyslog() : 2)
  const keeper = Keeper.start(wish, wish.driver === 'direct' ? 'cold' : 'once', output)
  if (typeof output === 'object') output.destroy()
  // A terminal's Ctrl-C reaches this process alone, which then unmounts in order.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => keeper.signal('SIGTERM'))
  process.on('SIGHUP', () => keeper.signal('SIGHUP'))
  await keeper.started()
  if (isBackground) {
    if (output === 'ignore') process.stderr.write('litevol: no syslog here, so what goes wrong later is not logged: say -o log=FILE\n')
    keeper.unref()
    return exitCodes.ok
  }
  process.stderr.write(`mounted ${wish.source} on ${mountpoint}\n`)
  const { code, signal } = await keeper.exited
  if (signal !== undefined) process.stderr.write(`litevol: the FUSE processes were killed by ${signal}\n`)
  rmSync(wish.runFolder, { recursive: true, force: true }) // it stays when the mount did not end in order
  if (code !== exitCodes.ok) spawnSync('umount', ['-l', '-c', '--', wish.mountpoint], { stdio: 'ignore' }) // nobody serves it
  return code ?? exitCodes.failed
}

/** The path of a file without symbolic links, also of one that is to be made; of one that cannot be made as it was said. */
function findReal(file: string): string {
  if (existsSync(file)) return realpathSync(file)
  return existsSync(dirname(file)) ? join(realpathSync(dirname(file)), basename(file)) : resolve(file)
}

/** SQLite opens the -wal by its path: below the mountpoint the FUSE process would ask itself for it, and wait for ever. */
function assertOutside({ file, mountpoint }: StartWish): void {
  if (`${relative(mountpoint, file)}/`.startsWith('../')) return
  throw new ErrnoError('EINVAL', `volume file ${file}: lies below the mountpoint ${mountpoint}, which would hide it`, {
    hint: 'mount it elsewhere, or move the file',
  })
}

function findDirectory(mountpoint: string): string {
  try {
    const path = realpathSync(mountpoint)
    if (statSync(path).isDirectory()) return path
  } catch (error) {
    const code = systemCode(error) === 'ENOENT' ? 'ENOENT' : 'EIO'
    throw new ErrnoError(code, `mountpoint ${mountpoint}: ${code === 'ENOENT' ? 'does not exist' : messageOf(error)}`, { cause: error })
  }
  throw new ErrnoError('ENOTDIR', `mountpoint ${mountpoint}: is not a directory`)
}
