/**
 * The FUSE processes of one mount as its supervisor sees them: started or found, asked, replaced, ended. One at a time serves; its
 * keeper replaces it when it dies.
 * Keeps: every call ends: with its reply, whoever gives it, at its time limit, or when the mount ends.
 * Leaves: what an end means for the volume to volume.ts, the line to process-link.ts, the processes to keeper.ts.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { ErrnoError, fromPlainError, type DriverName, type Logger } from '../base/index.ts'
import { protocol, type CallMessage, type CallName, type Calls, type EventMessage, type ProcessMessage } from '../mount/messages.ts'
import { Keeper, describeExit, type Exit, type StartWish } from './keeper.ts'
import { identifyProcess, isRunning, type ProcessIdentity } from './process-identity.ts'
import { ProcessLink } from './process-link.ts'

/** How to deal with a mount. */
export interface ProcessSettings {
  /** Killed when not ready by then. */
  readonly timeoutMs: number
  readonly log: Logger
  /** Held snapshots cost more than half of the WAL bytes that they may; called again as long as they do. */
  readonly onWalPressure: (walBytes: number) => void
  /** The mount is gone, and not by our call; the process waits for its snapshots to be released before it closes the file. */
  readonly onUnmounted: () => void
  /** Another process serves now: what the one before held is gone. */
  readonly onReplaced: () => void
}

/** How to start one. */
export interface StartSettings extends ProcessSettings {
  /** Whether a loaded successor waits. */
  readonly hasStandby: boolean
  /** The process exists but is not ready: whoever must stop it meanwhile can. */
  readonly onSpawn: (process: MountProcess) => void
}

type Ready = Extract<EventMessage, { type: 'ready' }>

/** A call without its reply. */
interface Waiting {
  readonly message: CallMessage
  readonly resolve: (reply: unknown) => void
  readonly reject: (error: ErrnoError) => void
  /** Whether a successor is to be asked the same. */
  readonly isWanted: boolean
}

/** How often a keeper is told again to replace its process, in ms: one of an older version forgets it while a successor takes over. */
const replaceEveryMs = 2000

export class MountProcess {
  readonly #keeper: Keeper
  readonly #link: ProcessLink
  readonly #settings: ProcessSettings
  readonly #waiting = new Map<number, Waiting>()
  readonly #greeted = Promise.withResolvers<undefined>()
  #ready: Ready | undefined
  #holder: ProcessIdentity | undefined
  #nextId = 1
  #hasEnded = false

  /** Settled when all processes are gone and every call has ended; never rejects. */
  readonly exited: Promise<Exit>

  private constructor(keeper: Keeper, runFolder: string, settings: ProcessSettings) {
    this.#keeper = keeper
    this.#settings = settings
    this.#link = new ProcessLink(runFolder, (message) => {
      this.#receive(message)
    })
    this.#greeted.promise.catch(() => undefined) // looked at by whoever waits for it
    this.exited = this.#watch()
  }

  /**
   * Starts a FUSE process and waits until its mountpoint serves.
   * Throws the process's own error when it fails, ETIMEDOUT (`not_ready`) after `timeoutMs`; the process is gone then.
   */
  static async start(wish: Omit<StartWish, 'hasLeash'>, settings: StartSettings): Promise<MountProcess> {
    const mode = settings.hasStandby ? 'standby' : 'cold'
    const keeper = Keeper.start({ ...wish, hasLeash: false }, wish.driver === 'direct' ? mode : 'once')
    const started = new MountProcess(keeper, wish.runFolder, settings)
    settings.onSpawn(started)
    try {
      await Promise.all([keeper.started(), started.#isReady(settings.timeoutMs)])
      return started
    } catch (error) {
      started.kill()
      await started.exited
      throw error
    }
  }

  /** Finds what an earlier manager has started and still serves; undefined when there is none. Throws as `start` does. */
  static async adopt(runFolder: string, settings: ProcessSettings): Promise<MountProcess | undefined> {
    const keeper = Keeper.find(runFolder)
    if (keeper === undefined) return undefined
    const found = new MountProcess(keeper, runFolder, settings)
    try {
      await found.#isReady(settings.timeoutMs)
      return found
    } catch (error) {
      found.kill()
      await found.exited
      throw error
    }
  }

  /** The process that serves, or did last; 0 when none ever did. */
  get pid(): number {
    return this.#ready?.pid ?? 0
  }

  /** How often it was replaced. */
  get restarts(): number {
    return this.#ready?.restarts ?? 0
  }

  get driver(): DriverName {
    return this.#ready?.driver ?? 'direct'
  }

  /** Tells, whenever it is asked, whether the process that serves now is still alive: what it holds is held as long. */
  holder(): () => boolean {
    const holder = this.#holder
    return () => holder !== undefined && isRunning(holder)
  }

  /**
   * Asks the process that serves, and when it is replaced meanwhile, its successor. Throws the error it answers with, ETIMEDOUT
   * after `timeoutMs`, ENOTCONN when the mount has ended or ends.
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
    const message = { id, call: name, request } as CallMessage
    this.#waiting.set(id, { message, resolve, reject, isWanted: true })
    const timer = setTimeout(() => {
      this.#waiting.set(id, { message, resolve: onLate as Waiting['resolve'], reject: () => undefined, isWanted: false })
      reject(new ErrnoError('ETIMEDOUT', `FUSE process ${String(this.pid)}: no reply to ${name} within ${String(timeoutMs)} ms`))
    }, timeoutMs)
    try {
      if (this.#ready !== undefined) this.#link.send(message)
      return (await promise) as Calls[N]['reply'] // the reply to `id` is of the call that was sent with it
    } finally {
      clearTimeout(timer)
    }
  }

  /** Has the process replaced by one with the code as it lies now; returns when that serves. Throws ETIMEDOUT, ENOTCONN; EOPNOTSUPP with fuse-native. */
  async replace(timeoutMs: number): Promise<void> {
    if (this.driver !== 'direct') throw new ErrnoError('EOPNOTSUPP', `driver ${this.driver}: its process cannot be replaced`)
    const [before, deadline] = [this.restarts, Date.now() + timeoutMs]
    for (let tries = 0; this.restarts === before; tries++) {
      if (this.#hasEnded) throw new ErrnoError('ENOTCONN', `FUSE process ${String(this.pid)}: has ended`)
      if (Date.now() > deadline)
        throw new ErrnoError('ETIMEDOUT', `FUSE process ${String(this.pid)}: not replaced within ${String(timeoutMs)} ms`)
      if (tries % (replaceEveryMs / pollMs) === 0) this.#keeper.replace()
      await sleep(pollMs)
    }
  }

  /** Ends it at once, with its keeper; `exited` follows. */
  kill(): void {
    this.#keeper.kill()
  }

  /** Waits for the greeting. */
  async #isReady(timeoutMs: number): Promise<void> {
    const timer = setTimeout(() => {
      this.#greeted.reject(new ErrnoError('ETIMEDOUT', `FUSE process: not ready within ${String(timeoutMs)} ms`, { problem: 'not_ready' }))
    }, timeoutMs)
    try {
      await this.#greeted.promise
    } finally {
      clearTimeout(timer)
    }
  }

  #receive(message: ProcessMessage): void {
    switch (message.type) {
      case 'reply':
        this.#take(message.id)?.resolve(message.reply)
        return
      case 'error':
        this.#take(message.id)?.reject(fromPlainError(message.error))
        return
      case 'ready':
        this.#greet(message)
        return
      case 'unmounted':
        this.#settings.onUnmounted()
        return
      case 'wal-pressure':
        this.#settings.onWalPressure(message.walBytes)
        return
      case 'failed': // said to the starter, not here
        return
      default:
        this.#settings.log.error({ message: message satisfies never }, 'FUSE process sent an unknown message')
    }
  }

  /** A process serves, the first or a successor: it is asked what was not answered. */
  #greet(ready: Ready): void {
    if (ready.protocol !== protocol) {
      this.#greeted.reject(new ErrnoError('EPROTO', `FUSE process: speaks protocol ${String(ready.protocol)}, not ${String(protocol)}`))
      return
    }
    const before = this.#ready
    this.#ready = ready
    this.#holder = identifyProcess(ready.pid)
    this.#greeted.resolve(undefined)
    if (before !== undefined && before.pid !== ready.pid) {
      this.#settings.log.warn({ pid: ready.pid, before: before.pid, restarts: ready.restarts }, 'the FUSE process was replaced')
      this.#settings.onReplaced()
    }
    for (const [id, { message, isWanted }] of this.#waiting) {
      if (isWanted) this.#link.send(message)
      else this.#waiting.delete(id)
    }
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    return waiting
  }

  async #watch(): Promise<Exit> {
    const exit = await this.#keeper.exited
    this.#hasEnded = true
    this.#link.close()
    const ended = describeExit(exit)
    this.#greeted.reject(new ErrnoError('ENOTCONN', `FUSE process: ended before it was ready: ${ended}`, { problem: 'not_ready' }))
    const error = new ErrnoError('ENOTCONN', `FUSE process ${String(this.pid)}: ended: ${ended}`)
    for (const { reject } of this.#waiting.values()) reject(error)
    return exit
  }
}

/** How often it is looked whether a successor serves, in ms. */
const pollMs = 10
