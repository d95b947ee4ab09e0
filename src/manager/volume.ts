/**
 * The supervisor of one volume: its FUSE process, its exports, its state.
 * Keeps: operations run one after another; a change of state is one call of `#enter`, which logs it; streams of exports end
 *   before their snapshots, snapshots before the file is settled; after each operation the file and the mountpoint fit the state.
 * Leaves: records to volume-manager.ts, the bytes of an export to exports.ts.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ErrnoError, messageOf, type DriverName, type Logger } from '../base/index.ts'
import type { StateReport } from '../mount/messages.ts'
import { Exports, type ExportView, type ExportWish } from './exports.ts'
import type { HeldSnapshot } from './lease.ts'
import { describeExit, unsettledCode, type Exit } from './keeper.ts'
import { MountProcess, type ProcessSettings } from './mount-process.ts'
import { clearMountpoint, isMountReadOnly, makeMountpoint } from './mountpoints.ts'
import { callTimeoutMs, flushTimeoutMs, ownerTimeoutMs, type ManagerOptions } from './options.ts'
import { settle } from './settle.ts'
import { TaskQueue } from './task-queue.ts'
import { acquireIfThere, explainStart, holdFile, readSettledState } from './volume-file.ts'
import { busyError, countHandles, waitForExit } from './unmounting.ts'
import type { Mounted, VolumeState } from './volume-state.ts'

/** How a volume is or was mounted, as far as its FUSE process tells. */
export interface MountStatus {
  readonly state: VolumeState['state']
  readonly mountpoint: string | null
  readonly pid: number | null
  /** As the mount table has it now: root may have remounted it. Null when not mounted. */
  readonly readOnly: boolean | null
  readonly driver: DriverName | null
  /** How often the FUSE process was replaced; null when not mounted. */
  readonly restarts: number | null
  /** Open handles; null when not mounted, or when the FUSE process is too busy to say. */
  readonly handles: number | null
  /** Why it failed; null in other states. */
  readonly reason: string | null
}

/** How long a mount waits for a FUSE process whose mount somebody else has ended; a bind elsewhere can keep it for ever, in ms. */
const outsideUnmountTimeoutMs = 5000

/** How long the status waits for the count of handles, in ms. */
const statusTimeoutMs = 2000

export class Volume {
  readonly id: string
  readonly file: string
  readonly mountpoint: string
  readonly #options: ManagerOptions
  readonly #log: Logger
  readonly #queue = new TaskQueue()
  readonly #exports: Exports
  #state: VolumeState = { state: 'unmounted' }
  /** The FUSE process while it starts or serves: a stop kills it when its time is over. */
  #process: MountProcess | undefined
  #isStopping = false

  constructor(id: string, file: string, options: ManagerOptions, log: Logger) {
    this.id = id
    this.file = file
    this.mountpoint = join(options.mountRoot, id)
    this.#options = options
    this.#log = log.child({ volume: id })
    this.#exports = new Exports(options, this.#log)
  }

  get state(): VolumeState['state'] {
    return this.#state.state
  }

  get isMounted(): boolean {
    return this.#state.state === 'mounted'
  }

  /** Mounts and returns once the mountpoint serves. Throws EBUSY `mounted`; on any other error everything is undone. */
  mount(readOnly: boolean, driver: DriverName = this.#options.driver): Promise<void> {
    return this.#run(async () => {
      await this.#awaitOutsideUnmount()
      if (this.#state.state === 'mounted') throw new ErrnoError('EBUSY', `volume ${this.id}: is mounted already`, { problem: 'mounted' })
      await this.#mountNow(readOnly, driver)
    })
  }

  /** Mounts for reading and writing unless it is mounted in any way; returns whether it did. Throws as `mount` does. */
  ensureMounted(): Promise<boolean> {
    return this.#run(async () => {
      await this.#awaitOutsideUnmount()
      if (this.#state.state === 'mounted') return false
      await this.#mountNow(false, this.#options.driver)
      return true
    })
  }

  /** Takes over what an earlier manager has mounted and still serves; returns whether there was anything. What does not answer is ended. */
  adopt(): Promise<boolean> {
    return this.#run(async () => {
      const process = await MountProcess.adopt(this.#runFolder, this.#settings())
      if (process === undefined) return false
      this.#process = process
      this.#watch(process)
      return true
    })
  }

  /** Replaces the FUSE process by one with the code as it lies now; its consumers see a pause. Throws ENOENT `not_mounted`, ETIMEDOUT, EOPNOTSUPP. */
  restart(): Promise<void> {
    return this.#run(async () => {
      if (this.#state.state !== 'mounted') throw new ErrnoError('ENOENT', `volume ${this.id}: is not mounted`, { problem: 'not_mounted' })
      await this.#state.process.replace(this.#options.mountTimeoutMs)
    })
  }

  /** A mount at the start of the manager failed: the state says so. */
  markFailed(reason: string): void {
    if (this.#state.state === 'unmounted') this.#enter({ state: 'failed', reason })
  }

  /** Unmounts. Throws ENOENT `not_mounted`, EBUSY with `handles` and `exports` in its context unless `force`, ETIMEDOUT. */
  unmount(force: boolean): Promise<void> {
    return this.#run(async () => {
      if (this.#state.state !== 'mounted') throw new ErrnoError('ENOENT', `volume ${this.id}: is not mounted`, { problem: 'not_mounted' })
      await this.#unmountNow(this.#state, force, this.#options.unmountTimeoutMs)
    })
  }

  /** Ends everything as a stop of the service does: by force, with what has not ended after `timeoutMs` killed. */
  async stop(timeoutMs: number): Promise<void> {
    this.#isStopping = true
    if (this.#state.state === 'mounting') this.#process?.kill()
    const timer = setTimeout(() => this.#process?.kill(), timeoutMs)
    try {
      await this.#queue.run(async () => {
        if (this.#state.state === 'mounted') await this.#unmountNow(this.#state, true, timeoutMs)
        await this.#exports.endAll('the manager stops')
      })
    } finally {
      clearTimeout(timer)
    }
  }

  /** Unmounts if need be, then calls `drop` while nobody has the file. Throws EBUSY unless `force`. */
  remove(force: boolean, drop: () => void): Promise<void> {
    return this.#run(async () => {
      if (this.#state.state === 'mounted') await this.#unmountNow(this.#state, force, this.#options.unmountTimeoutMs)
      if (!force) this.#assertNotRead(0)
      await this.#exports.endAll('the volume is deleted')
      const owner = await acquireIfThere(this.file)
      try {
        drop()
      } finally {
        owner?.release()
      }
      this.#enter({ state: 'deleted' })
    })
  }

  /** What the last change was, in the WAL or not. */
  readState(): Promise<StateReport> {
    return this.#run(() => {
      if (this.#state.state !== 'mounted') return readSettledState(this.file)
      return this.#state.process.call('state', {}, callTimeoutMs)
    })
  }

  /** Copies the WAL into the file, as far as exports allow that run or broke off. */
  checkpoint(): Promise<{ readonly framesCheckpointed: number; readonly framesRemaining: number }> {
    return this.#run(async () => {
      await this.#exports.endComplete()
      if (this.#state.state === 'mounted') return this.#state.process.call('checkpoint', {}, flushTimeoutMs)
      await settle(this.file, ownerTimeoutMs)
      return { framesCheckpointed: 0, framesRemaining: 0 }
    })
  }

  /** The bytes that answer a request for an export. */
  openExport(wish: ExportWish): Promise<ExportView> {
    return this.#run(() => this.#exports.open(wish, () => this.#acquireSnapshot()))
  }

  /** The state now, without waiting for what runs. */
  async status(): Promise<MountStatus> {
    const now = this.#state
    const none = { mountpoint: null, pid: null, readOnly: null, driver: null, restarts: null, handles: null, reason: null }
    switch (now.state) {
      case 'unmounted':
      case 'mounting':
      case 'deleted':
        return { ...none, state: now.state }
      case 'failed':
        return { ...none, state: 'failed', reason: now.reason }
      case 'unmounting':
        return { ...none, state: 'unmounting', pid: now.process.pid }
      case 'mounted': {
        const { process } = now
        const { pid, driver, restarts } = process
        const readOnly = isMountReadOnly(this.mountpoint)
        const counters = await process.call('status', {}, statusTimeoutMs).catch(() => undefined)
        const handles = counters?.handles ?? null
        return { ...none, state: 'mounted', mountpoint: this.mountpoint, pid, readOnly, driver, restarts, handles }
      }
      default:
        return now satisfies never
    }
  }

  #run<T>(task: () => Promise<T>): Promise<T> {
    return this.#queue.run(() => {
      if (this.#state.state === 'deleted') throw new ErrnoError('ENOENT', `volume ${this.id}: there is no such volume`)
      return task()
    })
  }

  #enter(state: VolumeState): void {
    const reason = state.state === 'failed' ? { reason: state.reason } : {}
    this.#log[state.state === 'failed' ? 'error' : 'info']({ from: this.#state.state, to: state.state, ...reason }, 'volume state')
    this.#state = state
  }

  /** The volume is mounted, and is no longer when the process ends for good. */
  #watch(process: MountProcess): void {
    this.#enter({ state: 'mounted', process })
    void process.exited.then((exit) => this.#queue.run(() => this.#afterExit(process, exit)))
  }

  get #runFolder(): string {
    return join(this.#options.runRoot, this.id)
  }

  #settings(): ProcessSettings {
    return {
      timeoutMs: this.#options.mountTimeoutMs,
      log: this.#log,
      onWalPressure: (walBytes) => void this.#exports.relieve(walBytes),
      onUnmounted: () => void this.#exports.endAll('the volume was unmounted'),
      onReplaced: () => void this.#exports.endAll('the FUSE process was replaced'),
    }
  }

  async #mountNow(readOnly: boolean, driver: DriverName): Promise<void> {
    if (this.#isStopping) throw new ErrnoError('EAGAIN', 'manager: is stopping', { problem: 'stopping' })
    this.#enter({ state: 'mounting' })
    try {
      this.#watch(await this.#start(readOnly, driver))
    } catch (error) {
      await this.#undoMount()
      this.#enter({ state: 'unmounted' })
      throw explainStart(this.id, error)
    }
    await this.#handOverSnapshot()
  }

  #start(readOnly: boolean, driver: DriverName): Promise<MountProcess> {
    makeMountpoint(this.mountpoint)
    const { logLevel, exportWalLimit, hasStandby, isLowLatency } = this.#options
    const options = {
      file: this.file,
      source: this.file,
      mountpoint: this.mountpoint,
      readOnly,
      driver,
      runFolder: this.#runFolder,
      mountOptions: [],
      logLevel,
      holdSnapshot: this.#exports.hasLeases,
      snapshotWalLimit: exportWalLimit,
      isLowLatency,
      ownerTimeoutMs,
    }
    return MountProcess.start(options, {
      ...this.#settings(),
      hasStandby,
      onSpawn: (process) => {
        this.#process = process
        if (this.#isStopping) process.kill()
      },
    })
  }

  /** The exports of the unmounted file go on: their snapshot is now the one that the FUSE process began with. */
  async #handOverSnapshot(): Promise<void> {
    if (this.#state.state !== 'mounted') return
    const { process } = this.#state
    const release = async (): Promise<void> => {
      await process.call('snapshot-release', { snapshot: 0 }, callTimeoutMs)
    }
    if (this.#exports.hasLeases) this.#exports.handOver({ isHeld: process.holder(), release })
    else await release().catch((error: unknown) => { this.#log.debug({ err: error }, 'no first snapshot to release') }) // prettier-ignore
  }

  async #acquireSnapshot(): Promise<HeldSnapshot> {
    if (this.#state.state !== 'mounted') return holdFile(this.file)
    const { process } = this.#state
    const release = async (snapshot: number): Promise<void> => {
      await process.call('snapshot-release', { snapshot }, callTimeoutMs)
    }
    const report = await process.call('snapshot-acquire', {}, flushTimeoutMs, ({ snapshot }) => void release(snapshot).catch(() => undefined)) // prettier-ignore
    return { file: this.file, ...report, isHeld: process.holder(), release: () => release(report.snapshot) }
  }

  async #unmountNow(mounted: Mounted, force: boolean, timeoutMs: number): Promise<void> {
    const { process } = mounted
    if (!force) this.#assertNotRead(await countHandles(process))
    this.#enter({ state: 'unmounting', process })
    await this.#exports.endAll('the volume is unmounted')
    const fault = await process.call('unmount', { force }, timeoutMs).then(() => undefined, (error: unknown) => error) // prettier-ignore
    if (!force && fault instanceof ErrnoError && (fault.code === 'EBUSY' || fault.code === 'ETIMEDOUT')) {
      this.#enter(mounted)
      throw fault.code === 'EBUSY' ? await this.#explainBusy(mounted) : fault
    }
    if (fault !== undefined) process.kill()
    const exit = await waitForExit(process, timeoutMs)
    const unsettled = await this.#cleanUp('the volume is unmounted')
    if (exit.code === 0)
      this.#enter({ state: 'unmounted' }) // in order, even where its reply was lost at its exit
    else if (exit.code === unsettledCode) this.#leaveUnsettled(unsettled)
    else this.#failUnmount(fault, exit)
  }

  /** Unmounted in order, but for the last step, making the volume one file; it was tried once more since. */
  #leaveUnsettled(fault: unknown): void {
    this.#enter({ state: 'unmounted' })
    if (fault === undefined) return
    const code = fault instanceof ErrnoError ? fault.code : 'EIO'
    const hint = 'nothing is lost: what its -wal holds is taken over when the volume is mounted or exported next'
    throw new ErrnoError(code, `volume ${this.id}: unmounted, but left with its -wal: ${messageOf(fault)}`, { cause: fault, hint })
  }

  #failUnmount(fault: unknown, exit: Exit): void {
    const reason = `FUSE process did not unmount in order: ${fault === undefined ? describeExit(exit) : messageOf(fault)}`
    this.#enter({ state: 'failed', reason })
    const hint = 'nothing is mounted any more and the file is whole; what applications had not synced may be missing'
    throw new ErrnoError('ETIMEDOUT', `volume ${this.id}: ${reason}`, { cause: fault, hint, problem: 'unmount_failed' })
  }

  async #explainBusy({ process }: Mounted): Promise<ErrnoError> {
    const { handles } = await process.call('status', {}, callTimeoutMs)
    return busyError(this.id, handles, this.#exports.streams)
  }

  #assertNotRead(handles: number): void {
    const { streams } = this.#exports
    if (handles > 0 || streams > 0) throw busyError(this.id, handles, streams)
  }

  /** The FUSE process is gone while the volume was mounted: unmounted by somebody else, or dead. */
  async #afterExit(process: MountProcess, exit: Exit): Promise<void> {
    if (this.#state.state !== 'mounted' || this.#state.process !== process) return
    const isOrdered = exit.code === 0 || exit.code === unsettledCode // it ends so after every unmount, whoever asked for it
    const unsettled = await this.#cleanUp(isOrdered ? 'the volume was unmounted' : 'the FUSE process died')
    const isClean = isOrdered && unsettled === undefined
    this.#enter(isClean ? { state: 'unmounted' } : { state: 'failed', reason: `FUSE process ended: ${describeExit(exit)}` })
  }

  /** umount(8) by somebody else returns before the FUSE process has finished: whoever mounts next waits for that. */
  async #awaitOutsideUnmount(): Promise<void> {
    if (this.#state.state !== 'mounted' || isMountReadOnly(this.mountpoint) !== null) return
    const { process } = this.#state
    const exit = await Promise.race([process.exited, sleep(outsideUnmountTimeoutMs, undefined, { ref: false })])
    if (exit !== undefined) await this.#afterExit(process, exit)
  }

  /** A mount failed. Exports of the unmounted file go on when no FUSE process has come near it. */
  async #undoMount(): Promise<void> {
    if (this.#process !== undefined) await this.#cleanUp('the mount failed')
    else await clearMountpoint(this.mountpoint, this.#log)
  }

  /** Nothing serves the volume any more: ends exports, removes the mountpoint, makes the file whole. Logs what fails, and returns it. */
  async #cleanUp(reason: string): Promise<unknown> {
    this.#process = undefined
    await this.#exports.endAll(reason)
    rmSync(this.#runFolder, { recursive: true, force: true }) // a keeper that was killed has left it
    try {
      await clearMountpoint(this.mountpoint, this.#log)
      await settle(this.file, ownerTimeoutMs)
      return undefined
    } catch (error) {
      this.#log.error({ err: error }, 'clean-up after a mount failed')
      return error
    }
  }
}
