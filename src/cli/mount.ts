/**
 * `litevol mount FILE MOUNTPOINT`: one volume file served in the foreground, without a manager.
 * Keeps: the FUSE process is a child that lives as long as this command, and the command as long as it: if this one dies it unmounts.
 * Leaves: serving to src/mount/main.ts, which is started by its path.
 */
import { fork } from 'node:child_process'
import { existsSync, realpathSync, statSync } from 'node:fs'
import { extname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ErrnoError, messageOf, systemCode, type DriverName, type LogLevel } from '../base/index.ts'
import { createVolumeFile } from '../engine/index.ts'
import type { ProcessMessage, StartOptions } from '../main.ts'
import { exitCodes } from './exit-codes.ts'

export interface MountFlags {
  readonly create: boolean
  readonly readOnly: boolean
  readonly driver: DriverName
  readonly logLevel: LogLevel
}

const program = fileURLToPath(new URL(`../mount/main${extname(import.meta.url)}`, import.meta.url))

/** The compiler holds it to the one of mount/messages.ts. */
const protocol: StartOptions['protocol'] = 2

/** How long to wait for another owner of the file that is finishing, in ms. */
const ownerTimeoutMs = 5000

/** Mounts and serves; resolves with the exit code when the mount is gone. Throws ENOENT, ENOTDIR, EEXIST, EINVAL. */
export async function mountFile(file: string, mountpoint: string, { create, readOnly, driver, logLevel }: MountFlags): Promise<number> {
  if (create && readOnly) throw new ErrnoError('EINVAL', '--create makes no sense with --read-only')
  const options: StartOptions = {
    protocol,
    file: existsSync(file) ? realpathSync(file) : resolve(file),
    source: file,
    mountpoint: findDirectory(mountpoint),
    readOnly,
    driver,
    logLevel,
    holdSnapshot: false,
    snapshotWalLimit: 0,
    mounts: 1,
    ownerTimeoutMs,
  }
  if (create) createVolumeFile(options.file)
  return serve(options, mountpoint)
}

function serve(options: StartOptions, mountpoint: string): Promise<number> {
  const { promise, resolve: end, reject } = Promise.withResolvers<number>()
  const child = fork(program, [JSON.stringify(options)], {
    execArgv: ['--disable-warning=ExperimentalWarning'],
    env: { ...process.env, MALLOC_ARENA_MAX: '2' }, // one malloc arena per core would keep 20 MB more
    stdio: ['ignore', 2, 2, 'ipc'],
  })
  let failure: string | undefined
  child.on('message', (message: ProcessMessage) => {
    if (message.type === 'ready') process.stderr.write(`mounted ${options.source} on ${mountpoint}\n`)
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
