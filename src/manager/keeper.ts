/**
 * The keeper of one mount (mount/keeper.sh): started, found again by its run folder, signalled.
 * Keeps: it lives in a session of its own, so it outlives this manager; it gets no environment but what it needs.
 * Leaves: what its FUSE processes say to mount-process.ts.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { extname, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { ErrnoError, fromPlainError, messageOf } from '../base/index.ts'
import { keeperName, protocol, type EventMessage, type StartOptions } from '../mount/messages.ts'
import { identifyProcess, isRunning, type ProcessIdentity } from './process-identity.ts'

/** How a keeper ended, with the code of its last FUSE process. Both are undefined when it was not our child and did not end in order. */
export interface Exit {
  readonly code: number | undefined
  readonly signal: string | undefined
}

/** The exit code that says: the mount is gone in order, but the volume is left with its WAL (mount/main.ts). */
export const unsettledCode = 2

/** `cold`: a successor is started when it is needed; `once`: nobody is replaced. */
export type KeeperMode = 'standby' | 'cold' | 'once'

/** What a mount is started with; the rest is the keeper's to say. */
export type StartWish = Omit<StartOptions, 'protocol' | 'connection'>

/** Connection numbers are below this: exact as a number, and never 0. */
const connections = 2 ** 47

/** The variables that a FUSE process gets: those of every program, where Node keeps compiled code, and those by which tests steer it. */
const passedVariables = ['PATH', 'LANG', 'TZ', 'TMPDIR', 'HOME', 'NODE_COMPILE_CACHE', 'LITEVOL_FAILPOINT', 'LITEVOL_RESEND'] as const

/** How often an adopted keeper, which is not our child, is looked at, in ms. */
const pollMs = 50

/** The programs, with the extension this file has: TypeScript in the repository, JavaScript in the package. */
const script = fileURLToPath(new URL('../mount/keeper.sh', import.meta.url))
const program = fileURLToPath(new URL(`../mount/main${extname(import.meta.url)}`, import.meta.url))

export class Keeper {
  readonly #identity: ProcessIdentity | undefined
  readonly #child: ChildProcess | undefined
  /** Settled when it is gone; never rejects. */
  readonly exited: Promise<Exit>

  private constructor(identity: ProcessIdentity | undefined, child: ChildProcess | undefined, exited: Promise<Exit>) {
    this.#identity = identity
    this.#child = child
    this.exited = exited
  }

  /**
   * Starts a keeper with an empty run folder. `errors` is where its log lines go; default: this process's standard error.
   * With a leash (StartOptions) the mount ends when this process does. Throws EIO when the folder cannot be made.
   */
  static start(wanted: StartWish, mode: KeeperMode, errors: Writable | number | 'ignore' | 'inherit' = 'inherit'): Keeper {
    const options: StartOptions = { protocol, ...wanted, connection: randomInt(1, connections) }
    const { runFolder, file } = options
    try {
      rmSync(runFolder, { recursive: true, force: true })
      mkdirSync(runFolder, { recursive: true, mode: 0o700 })
    } catch (cause) {
      throw new ErrnoError('EIO', `run folder ${runFolder}: cannot be made: ${messageOf(cause)}`, { cause })
    }
    const child = spawn('sh', [script, mode, runFolder, file, process.execPath, program, JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', errors, 'ignore', 'ignore', options.hasLeash ? 'pipe' : 'ignore'],
      env: makeEnvironment(),
      detached: true,
      cwd: '/',
    })
    const { promise, resolve } = Promise.withResolvers<Exit>()
    child.once('error', () => {
      resolve({ code: undefined, signal: undefined })
    })
    child.once('exit', (code, signal) => {
      resolve({ code: code ?? undefined, signal: signal ?? undefined })
    })
    return new Keeper(child.pid === undefined ? undefined : identifyProcess(child.pid), child, promise)
  }

  /** The keeper that lives in a run folder, left by an earlier manager; undefined when there is none. */
  static find(runFolder: string): Keeper | undefined {
    const pid = readNumber(join(runFolder, keeperName))
    const identity = pid === undefined ? undefined : identifyProcess(pid)
    if (identity === undefined || !isKeeperOf(identity.pid, runFolder)) return undefined
    return new Keeper(identity, undefined, watch(identity, runFolder))
  }

  /** Waits for what the first FUSE process says of its start; for a keeper that was found, not at all. Throws its error when it failed. */
  async started(): Promise<void> {
    const output = this.#child?.stdout
    if (output === undefined || output === null) return
    for await (const line of createInterface({ input: output })) {
      const event = JSON.parse(line) as EventMessage
      if (event.type === 'failed') throw fromPlainError(event.error)
      if (event.type === 'ready') return
    }
    const { code, signal } = await this.exited
    throw new ErrnoError('ENOTCONN', `FUSE process: ended before it was ready: ${describeExit({ code, signal })}`, { problem: 'not_ready' })
  }

  /** 0 when it could not be started. */
  get pid(): number {
    return this.#identity?.pid ?? 0
  }

  /** Lets this process end before it: only where there is no leash. */
  unref(): void {
    this.#child?.unref()
    this.#child?.stdout?.destroy()
  }

  /** Passes a signal on: TERM ends the mount, HUP has the FUSE process replaced. */
  signal(signal: 'SIGTERM' | 'SIGHUP'): void {
    if (this.#identity !== undefined && isRunning(this.#identity)) process.kill(this.#identity.pid, signal)
  }

  /** Has it replace the FUSE process by one with the code as it lies now. */
  replace(): void {
    this.signal('SIGHUP')
  }

  /** Ends it and its FUSE processes at once; `exited` follows. */
  kill(): void {
    if (this.#identity === undefined || !isRunning(this.#identity)) return
    process.kill(-this.#identity.pid, 'SIGKILL') // its process group: spawn(detached) has made it the leader
  }
}

/** An exit in words: `killed by SIGKILL`, `exit code 1`. */
export function describeExit({ code, signal }: Exit): string {
  return signal === undefined ? `exit code ${String(code ?? 'unknown')}` : `killed by ${signal}`
}

/** A keeper removes its folder when the mount ended in order; whether the volume is one file is then seen by settling it. */
async function watch(identity: ProcessIdentity, runFolder: string): Promise<Exit> {
  while (isRunning(identity)) await sleep(pollMs)
  return { code: existsSync(runFolder) ? undefined : unsettledCode, signal: undefined }
}

function readNumber(path: string): number | undefined {
  try {
    const number = Number(readFileSync(path, 'utf8'))
    return Number.isSafeInteger(number) && number > 1 ? number : undefined
  } catch {
    return undefined
  }
}

function isKeeperOf(pid: number, runFolder: string): boolean {
  try {
    const words = readFileSync(`/proc/${String(pid)}/cmdline`, 'utf8').split('\0')
    return words.some((word) => word.endsWith('/keeper.sh')) && words.includes(runFolder)
  } catch {
    return false
  }
}

/** One malloc arena per core would keep 20 MB more. */
function makeEnvironment(): Record<string, string> {
  const passed = passedVariables.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]]))
  return { ...(Object.fromEntries(passed) as Record<string, string>), MALLOC_ARENA_MAX: '2' }
}
