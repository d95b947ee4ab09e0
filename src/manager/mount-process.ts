/**
 * One FUSE process as its supervisor sees it: started, ready or not, asked over IPC, ended.
 * Keeps: every call ends: with its reply, at its time limit, or when the process ends. The process gets no environment but what it needs.
 * Leaves: what a death means for the volume to volume.ts.
 */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { extname } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { execa } from 'execa'
import { ErrnoError, fromPlainError, type Logger } from '../base/index.ts'
import { protocol, type CallName, type Calls, type EventMessage, type ProcessMessage, type StartOptions } from '../mount/messages.ts'
import { logLine } from './process-log.ts'

/** How a process ended. */
export interface Exit {
  readonly code: number | undefined
  readonly signal: string | undefined
  /** Its last warning, which often says why. */
  readonly lastLine: string | undefined
}

/** How to start a FUSE process. */
export interface StartSettings {
  /** Killed when not ready by then. */
  readonly timeoutMs: number
  readonly log: Logger
  /** Held snapshots keep the WAL above its limit; called again as long as they do. */
  readonly onWalLimit: () => void
  /** The mount is gone, and not by our call; the process waits for its snapshots to be released before it closes the file. */
  readonly onUnmounted: () => void
  /** The process exists but is not ready: whoever must stop it meanwhile can. */
  readonly onSpawn: (process: MountProcess) => void
}

interface Waiting {
  readonly resolve: (reply: unknown) => void
  readonly reject: (error: ErrnoError) => void
}

const execaOptions = {
  ipc: true,
  serialization: 'json',
  stdin: 'ignore',
  buffer: false,
  reject: false,
  cleanup: true,
  extendEnv: false,
} as const

/** How long the messages of a process that has ended are waited for, in ms. */
const drainTimeoutMs = 1000

const passedVariables = ['PATH', 'LANG', 'TZ', 'TMPDIR', 'HOME'] as const

/** The program, with the extension this file has: TypeScript in the repository, JavaScript in the package. */
const program = fileURLToPath(new URL(`../mount/main${extname(import.meta.url)}`, import.meta.url))

export class MountProcess {
  readonly #child: ChildProcess
  readonly #log: Logger
  readonly #waiting = new Map<number, Waiting>()
  readonly #onEvent: (event: EventMessage) => void
  #nextId = 1
  #lastLine: string | undefined
  #hasEnded = false

  /** Settled when the process is gone and every call has ended; never rejects. */
  readonly exited: Promise<Exit>

  private constructor(options: StartOptions, log: Logger, onEvent: (event: EventMessage) => void) {
    const running = execa(process.execPath, ['--disable-warning=ExperimentalWarning', program, JSON.stringify(options)], {
      ...execaOptions,
      env: makeEnvironment(),
      detached: true, // a process group of its own: Ctrl-C reaches the manager alone, which then unmounts in order
    })
    this.#child = running.nodeChildProcess
    this.#log = log.child({ fusePid: this.#child.pid })
    this.#onEvent = onEvent
    this.#child.on('message', (message) => {
      this.#receive(message as unknown as ProcessMessage)
    })
    for (const output of [running.stdout, running.stderr]) this.#capture(output)
    this.exited = this.#watch(running)
  }

  /**
   * Starts a FUSE process and waits until its mountpoint serves.
   * Throws the process's own error when it fails, ETIMEDOUT (`not_ready`) after `timeoutMs`; the process is gone then.
   */
  static async start(
    options: Omit<StartOptions, 'protocol'>,
    { timeoutMs, log, onWalLimit, onUnmounted, onSpawn }: StartSettings,
  ): Promise<MountProcess> {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>()
    const started = new MountProcess({ protocol, ...options }, log, (event) => {
      if (event.type === 'wal-limit') onWalLimit()
      if (event.type === 'unmounted') onUnmounted()
      if (event.type === 'failed') reject(fromPlainError(event.error))
      if (event.type !== 'ready') return
      if (event.protocol === protocol) resolve(undefined)
      else reject(new ErrnoError('EPROTO', `FUSE process: speaks protocol ${String(event.protocol)}, not ${String(protocol)}`))
    })
    onSpawn(started)
    const timer = setTimeout(() => {
      reject(new ErrnoError('ETIMEDOUT', `FUSE process: not ready within ${String(timeoutMs)} ms`, { problem: 'not_ready' }))
    }, timeoutMs)
    void started.exited.then((exit) => {
      reject(new ErrnoError('ENOTCONN', `FUSE process: ended before it was ready: ${describeExit(exit)}`, { problem: 'not_ready' }))
    })
    try {
      await promise
      return started
    } catch (error) {
      started.kill()
      await started.exited
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /** 0 when it could not even be spawned. */
  get pid(): number {
    return this.#child.pid ?? 0
  }

  /**
   * Asks the process. Throws the error it answers with, ETIMEDOUT after `timeoutMs`, ENOTCONN when it has ended or ends.
   * `onLate` gets a reply that comes after that, so that what it gave can be given back.
   */
  async call<N extends CallName>(
    name: N,
    request: Calls[N]['request'],
    timeoutMs: number,
    onLate: (reply: Calls[N]['reply']) => void = () => undefined,
  ): Promise<Calls[N]['reply']> {
    if (this.#hasEnded) throw new ErrnoError('ENOTCONN', `FUSE process ${String(this.pid)}: has ended`)
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    const id = this.#nextId++
    this.#waiting.set(id, { resolve, reject })
    const timer = setTimeout(() => {
      this.#waiting.set(id, { resolve: onLate as Waiting['resolve'], reject: () => undefined })
      reject(new ErrnoError('ETIMEDOUT', `FUSE process ${String(this.pid)}: no reply to ${name} within ${String(timeoutMs)} ms`))
    }, timeoutMs)
    try {
      this.#child.send({ id, call: name, request }, (error) => {
        if (error !== null) reject(new ErrnoError('ENOTCONN', `FUSE process ${String(this.pid)}: cannot be asked`, { cause: error }))
      })
      return (await promise) as Calls[N]['reply'] // the reply to `id` is of the call that was sent with it
    } finally {
      clearTimeout(timer)
    }
  }

  /** Ends it at once; `exited` follows. */
  kill(): void {
    this.#child.kill('SIGKILL')
  }

  #receive(message: ProcessMessage): void {
    switch (message.type) {
      case 'reply':
        this.#take(message.id)?.resolve(message.reply)
        return
      case 'error':
        this.#take(message.id)?.reject(fromPlainError(message.error))
        return
      case 'unmounted':
        this.#onEvent(message)
        return
      case 'wal-limit':
      case 'ready':
      case 'failed':
        this.#onEvent(message)
        return
      default:
        this.#log.error({ message: message satisfies never }, 'FUSE process sent an unknown message')
    }
  }

  /** Its last messages may still be on the way when its exit is seen. */
  async #drain(): Promise<void> {
    if (!this.#child.connected) return
    await once(this.#child, 'disconnect', { signal: AbortSignal.timeout(drainTimeoutMs) }).catch(() => undefined)
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    return waiting
  }

  #capture(output: Readable): void {
    createInterface({ input: output }).on('line', (line) => {
      this.#lastLine = logLine(this.#log, line) ?? this.#lastLine
    })
  }

  async #watch(running: PromiseLike<{ exitCode?: number; signal?: string }>): Promise<Exit> {
    const { exitCode, signal } = await running
    await this.#drain()
    this.#hasEnded = true
    const exit = { code: exitCode, signal, lastLine: this.#lastLine }
    const error = new ErrnoError('ENOTCONN', `FUSE process ${String(this.pid)}: ended: ${describeExit(exit)}`)
    for (const { reject } of this.#waiting.values()) reject(error)
    return exit
  }
}

/** An exit in words: `killed by SIGKILL`, `exit code 1: volume file /x: not a litevol volume`. */
export function describeExit({ code, signal, lastLine }: Exit): string {
  const how = signal === undefined ? `exit code ${String(code ?? 'unknown')}` : `killed by ${signal}`
  return lastLine === undefined ? how : `${how}: ${lastLine}`
}

/** One malloc arena per core would keep 20 MB more. */
function makeEnvironment(): Record<string, string> {
  const passed = passedVariables.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]]))
  return { ...(Object.fromEntries(passed) as Record<string, string>), MALLOC_ARENA_MAX: '2' }
}
