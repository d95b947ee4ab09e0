/**
 * Ownership of a volume file: one process at a time.
 * Keeps: the lock is an flock(2) on the file itself, so it dies with its process, holds across containers,
 *   and a copy of the file is free at once. It does not meddle with SQLite's POSIX locks.
 * Leaves: what an owner does with the file to its callers. The only place of the engine that starts a process: flock(1),
 *   which locks the open file description that we go on holding.
 */
import { spawn } from 'node:child_process'
import { closeSync, fstatSync, openSync, readFileSync, readdirSync, readlinkSync, realpathSync, statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { ErrnoError, systemCode } from '../base/index.ts'

/**
 * The beginning of the title of a process that serves a file, as ps(1) shows it: such an owner is not about to finish. Once it
 * has a mount, the mount's device number and mountpoint follow as in mountinfo: `litevol: serving 0:53 /mnt/a /data/a.sqlite`.
 */
export const servingTitle = 'litevol: serving'

/** How often a waiting opener tries again, in ms. */
const retryMs = 50

/** flock(1)'s exit code when somebody else has the lock: ours, by --conflict-exit-code. */
const conflictExitCode = 75

/** A held ownership. */
export class Owner {
  #descriptor: number | undefined

  private constructor(descriptor: number) {
    this.#descriptor = descriptor
  }

  /**
   * Takes the ownership of `file`. An owner that is finishing is waited for, up to `timeoutMs`. If `inherited` is a descriptor of
   * that file, it is the one that is locked: all processes that inherited it own the file, until the last of them closes it.
   * Throws ENOENT, EACCES, or EBUSY saying who holds it.
   */
  static async acquire(file: string, timeoutMs: number, inherited?: number): Promise<Owner> {
    const deadline = Date.now() + timeoutMs
    for (;;) {
      const descriptor = inherited !== undefined && leadsTo(inherited, file) ? inherited : openForLock(file)
      try {
        if (await tryLock(descriptor)) return new Owner(descriptor)
      } catch (error) {
        if (descriptor !== inherited) closeSync(descriptor)
        throw error
      }
      if (descriptor !== inherited) closeSync(descriptor)
      const holder = findHolder(file)
      if (holder?.isServing === true || Date.now() > deadline) throw heldError(`volume file ${file}`, holder)
      await sleep(retryMs)
    }
  }

  /** Gives the ownership up. Call after the last SQLite connection on the file is closed: closing drops this process's POSIX locks on it. */
  release(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor)
    this.#descriptor = undefined
  }
}

function openForLock(file: string): number {
  try {
    return openSync(file, 'r')
  } catch (error) {
    const code = systemCode(error) === 'ENOENT' ? 'ENOENT' : 'EACCES'
    const fault = code === 'ENOENT' ? 'does not exist' : 'cannot be opened'
    throw new ErrnoError(code, `volume file ${file}: ${fault}`, { cause: error })
  }
}

/** Runs flock(1) on an inherited descriptor; false when another open file description has the lock. */
function tryLock(descriptor: number): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>()
  const args = ['--exclusive', '--nonblock', '--conflict-exit-code', String(conflictExitCode), '3']
  const child = spawn('flock', args, { stdio: ['ignore', 'ignore', 'ignore', descriptor] })
  child.once('error', (cause) => {
    reject(new ErrnoError('EIO', 'flock: cannot be started', { cause, hint: 'install util-linux' }))
  })
  child.once('exit', (code) => {
    if (code === 0 || code === conflictExitCode) resolve(code === 0)
    else reject(new ErrnoError('EIO', `flock: ended with ${String(code)}`))
  })
  return promise
}

interface Holder {
  readonly pid: number
  readonly command: string
  readonly isServing: boolean
}

/** Who has the file open, as far as /proc shows, one that serves it before one that will, or did, and that before others: a process of another pid or mount namespace may not appear. */
function findHolder(file: string): Holder | undefined {
  const path = realpathSync(file)
  const own = [process.pid, process.ppid].map(String) // our keeper has it open for us
  const pids = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && !own.includes(pid) && hasOpen(pid, path))
  const holders = pids.map((pid): Holder => {
    const command = readCommand(pid)
    return { pid: Number(pid), command, isServing: isServing(pid, command) }
  })
  return holders.find(({ isServing }) => isServing) ?? holders.find(({ command }) => command.startsWith('litevol: ')) ?? holders[0]
}

function leadsTo(descriptor: number, file: string): boolean {
  const there = statSync(file, { throwIfNoEntry: false })
  const here = fstatSync(descriptor)
  return there?.ino === here.ino && there.dev === here.dev
}

/** umount(2) by hand returns before a FUSE process has noticed: one that serves, but whose mount is gone, is about to finish too. */
function isServing(pid: string, command: string): boolean {
  if (!command.startsWith(servingTitle)) return false
  const [, device, mountpoint] = /^ (\d+:\d+) (\S+) /.exec(command.slice(servingTitle.length)) ?? []
  return device === undefined || mountpoint === undefined || hasMount(pid, device, mountpoint)
}

/** Whether the process sees that mount. Reads its mountinfo, proc_pid_mountinfo(5), and touches no mountpoint. */
function hasMount(pid: string, device: string, mountpoint: string): boolean {
  try {
    const lines = readFileSync(`/proc/${pid}/mountinfo`, 'utf8').split('\n')
    return lines.map((line) => line.split(' ')).some((fields) => fields[2] === device && fields[4] === mountpoint)
  } catch {
    return false // it has ended meanwhile
  }
}

/** Only reads the links: to stat what they lead to could wait for ever on a mount that nobody serves. */
function hasOpen(pid: string, path: string): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === path)
  } catch {
    return false // it ended or closed one meanwhile, or is not ours to look at
  }
}

function readCommand(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
  } catch {
    return ''
  }
}

function heldError(thing: string, holder: Holder | undefined): ErrnoError {
  const who = holder === undefined ? 'a process that this one cannot see' : `process ${String(holder.pid)} (${holder.command})`
  return new ErrnoError('EBUSY', `${thing}: held by ${who}`, { hint: 'stop that process first', problem: 'held' })
}
