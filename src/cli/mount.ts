/**
 * `litevol mount FILE MOUNTPOINT`: one volume file served without a manager, in the foreground or in the background.
 * Keeps: in the foreground the FUSE process lives as long as this command, and the command as long as it: if this one dies it
 *   unmounts. In the background this command ends when the mount serves, and the FUSE process when it is unmounted.
 * Leaves: serving to src/mount/main.ts, which is started by its path; the words of -o to mount-options.ts.
 */
import { fork } from 'node:child_process'
import { existsSync, realpathSync, statSync } from 'node:fs'
import { extname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ErrnoError, messageOf, systemCode, type DriverName, type LogLevel } from '../base/index.ts'
import { createVolumeFile } from '../engine/index.ts'
import type { ProcessMessage, StartOptions } from '../main.ts'
import { exitCodes } from './exit-codes.ts'
import { openLogFile, openSyslog, type LogOutput } from './log-output.ts'
import type { MountOptions } from './mount-options.ts'
import { remount } from './remount.ts'

export interface MountFlags extends Omit<MountOptions, 'driver'> {
  readonly isBackground: boolean
  readonly driver: DriverName
  readonly logLevel: LogLevel
}

const program = fileURLToPath(new URL(`../mount/main${extname(import.meta.url)}`, import.meta.url))

/** The compiler holds it to the one of mount/messages.ts. */
const protocol: StartOptions['protocol'] = 3

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
  const { create, isReadOnly, isBackground, log, kernel, driver, logLevel } = flags
  if (create && isReadOnly) throw new ErrnoError('EINVAL', '--create makes no sense with --read-only')
  const options: StartOptions = {
    protocol,
    file: existsSync(file) ? realpathSync(file) : resolve(file),
    source: isBackground ? resolve(file) : file,
    mountpoint: findDirectory(mountpoint),
    readOnly: isReadOnly,
    mountOptions: kernel,
    isDetached: isBackground,
    driver,
    logLevel,
    holdSnapshot: false,
    snapshotWalLimit: 0,
    mounts: 1,
    ownerTimeoutMs,
  }
  const logFile = log === undefined ? undefined : openLogFile(log)
  if (create) createVolumeFile(options.file)
  return serve(options, mountpoint, logFile)
}

/** Without a `log`: this command's standard error, or in the background syslog. */
function serve(options: StartOptions, mountpoint: string, log: number | undefined): Promise<number> {
  const { isDetached } = options
  const output: LogOutput = log ?? (isDetached ? openSyslog() : 2)
  const { promise, resolve: end, reject } = Promise.withResolvers<number>()
  const child = fork(program, [JSON.stringify(options)], {
    execArgv: ['--disable-warning=ExperimentalWarning'],
    env: { ...process.env, MALLOC_ARENA_MAX: '2' }, // one malloc arena per core would keep 20 MB more
    stdio: ['ignore', output, output, 'ipc'],
    ...(isDetached ? { detached: true, cwd: '/' } : {}), // a session of its own, and no mountpoint kept busy
  })
  if (typeof output === 'object') output.destroy()
  const leave = (): void => {
    if (output === 'ignore') process.stderr.write('litevol: no syslog here, so what goes wrong later is not logged: say -o log=FILE\n')
    child.disconnect()
    child.unref()
    end(exitCodes.ok)
  }
  let failure: string | undefined
  child.on('message', (message: ProcessMessage) => {
    if (message.type === 'ready' && isDetached) leave()
    else if (message.type === 'ready') process.stderr.write(`mounted ${options.source} on ${mountpoint}\n`)
    if (message.type === 'failed') failure = message.error.message + (message.error.hint === undefined ? '' : ` (${message.error.hint})`)
  })
  // A terminal's Ctrl-C reaches both: the child takes the first signal, this one waits for it.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal))
  child.once('error', reject)
  child.once('exit', (code, signal) => {
    if (failure !== undefined) process.stderr.write(`litevol: ${failure}\n`)
    if (signal !== null) process.stderr.write(`litevol: the FUSE process was killed by ${signal}\n`)
    end(code ?? exitCodes.failed)
  })
  return promise
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
