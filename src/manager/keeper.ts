/**
 * The keeper of one mount (mount/keeper.sh): started, found again by its run folder, signalled.
 * Keeps: it lives in a session of its own, so it outlives this manager; it gets no environment but what it needs.
 * Leaves: what its FUSE processes say to mount-process.ts.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { extname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { ErrnoError, messageOf } from '../base/index.ts'
import { keeperName, type StartOptions } from '../mount/messages.ts'
import { identifyProcess, isRunning, type ProcessIdentity } from './process-identity.ts'

/** How a keeper ended, with the code of its last FUSE process. Both are undefined when it was not our child. */
export interface Exit {
  readonly code: number | undefined
  readonly signal: string | undefined
}

/** `cold`: a successor is started when it is needed; `once`: nobody is replaced. */
export type KeeperMode = 'standby' | 'cold' | 'once'

/** The variables that a FUSE process gets: those of every program, and those by which tests steer it. */
const passedVariables = ['PATH', 'LANG', 'TZ', 'TMPDIR', 'HOME', 'LITEVOL_FAILPOINT', 'LITEVOL_RESEND'] as const

/** How often an adopted keeper, which is not our child, is looked at, in ms. */
const pollMs = 50

/** The programs, with the extension this file has: TypeScript in the repository, JavaScript in the package. */
const script = fileURLToPath(new URL('../mount/keeper.sh', import.meta.url))
const program = fileURLToPath(new URL(`../mount/main${extname(import.meta.url)}`, import.meta.url))

export class Keeper {
  readonly #identity: ProcessIdentity | undefined
  /** The standard output of a keeper that we started: its first FUSE process says there how the start went. */
  readonly output: ChildProcess['stdout']
  /** Settled when it is gone; never rejects. */
  readonly exited: Promise<Exit>

  private constructor(identity: ProcessIdentity | undefined, output: ChildProcess['stdout'], exited: Promise<Exit>) {
    this.#identity = identity
    this.output = output
    this.exited = exited
  }

  /** Starts a keeper with an empty run folder. Throws EIO when the folder cannot be made. */
  static start(options: StartOptions, mode: KeeperMode): Keeper {
    const { runFolder, file } = options
    try {
      rmSync(runFolder, { recursive: true, force: true })
      mkdirSync(runFolder, { recursive: true, mode: 0o700 })
    } catch (cause) {
      throw new ErrnoError('EIO', `run folder ${runFolder}: cannot be made: ${messageOf(cause)}`, { cause })
    }
    const child = spawn('sh', [script, mode, runFolder, file, process.execPath, program, JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: makeEnvironment(),
      detached: true,
    })
    const { promise, resolve } = Promise.withResolvers<Exit>()
    child.once('error', () => {
      resolve({ code: undefined, signal: undefined })
    })
    child.once('exit', (code, signal) => {
      resolve({ code: code ?? undefined, signal: signal ?? undefined })
    })
    return new Keeper(child.pid === undefined ? undefined : identifyProcess(child.pid), child.stdout, promise)
  }

  /** The keeper that lives in a run folder, left by an earlier manager; undefined when there is none. */
  static find(runFolder: string): Keeper | undefined {
    const pid = readNumber(join(runFolder, keeperName))
    const identity = pid === undefined ? undefined : identifyProcess(pid)
    if (identity === undefined || !isKeeperOf(identity.pid, runFolder)) return undefined
    return new Keeper(identity, null, watch(identity))
  }

  /** 0 when it could not be started. */
  get pid(): number {
    return this.#identity?.pid ?? 0
  }

  /** Has it replace the FUSE process by one with the code as it lies now. */
  replace(): void {
    if (this.#identity !== undefined && isRunning(this.#identity)) process.kill(this.#identity.pid, 'SIGHUP')
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

async function watch(identity: ProcessIdentity): Promise<Exit> {
  while (isRunning(identity)) await sleep(pollMs)
  return { code: undefined, signal: undefined }
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
