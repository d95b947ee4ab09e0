/**
 * One served mount, as its control thread sees it: from taking the file to giving it back.
 * Keeps: the file has one owner all the while, and one process at a time serves it, whatever its keeper does; after `finish` it is one
 *   file without a WAL; what the supervisor asks is answered while the serving thread is busy.
 * Leaves: requests of the kernel to the driver's VolumeServer, the channel to the supervisor to main.ts.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { ErrnoError, type Logger } from '../base/index.ts'
import {
  Maintenance,
  Owner,
  ProcessLock,
  WriteGate,
  assertLength,
  servingTitle,
  type CheckpointResult,
  type Snapshot,
} from '../engine/index.ts'
import { abortConnection, deviceNumber, escapeMountinfo, findMount, setDirtyLimit, unmountFuse } from '../fuse/index.ts'
import { startCheckpointing } from './checkpointing.ts'
import { lockFd } from './descriptors.ts'
import { DirectServer } from './direct-server.ts'
import { followMemory } from './dirty-pages.ts'
import { flushFiles } from './flush.ts'
import type { Calls, SnapshotReport, StartOptions, StateReport } from './messages.ts'
import { SharedLostSync } from './lost-sync.ts'
import { startLowLatency } from './low-latency.ts'
import { NativeServer } from './native-server.ts'
import { countHandles, countRequests, makeSharedFiles, writtenInodes } from './open-files.ts'
import { RunFolder, type Handover } from './run-folder.ts'
import type { ServerParts, VolumeServer } from './volume-server.ts'

/**
 * After umount(2) the connection may take a moment to end by itself; after so many looks, with this pause in ms between two, another
 * bind keeps it alive. Counted in looks, not by the clock: a machine that stands still, however long, uses up one of them.
 */
const detachLooks = 20
const detachPauseMs = 50

/** How long the readers of snapshots have, once the mount is gone, to stop and release them; how often that is looked at; in ms. */
const releaseTimeoutMs = 30_000
const releasePollMs = 10

/** Read-ahead of a mount in KiB: one request of the largest size. */
const readAheadKb = 1024

/** How the kernel is answered: by our own protocol in a thread of its own, or by libfuse on this one. */
const servers = { direct: DirectServer, 'fuse-native': NativeServer } as const

/** Snapshots of one generation are numbered from a multiple of this, so that one of a dead process is never taken for another. */
const snapshotsPerGeneration = 1_000_000

interface DeviceNumber {
  readonly major: number
  readonly minor: number
}

/** The volume as this thread has it open. */
interface Opened {
  readonly maintenance: Maintenance
  readonly lostSync: SharedLostSync
  readonly gate: WriteGate
}

export class Serving {
  readonly #options: StartOptions
  readonly #generation: number
  readonly #logger: Logger
  readonly #folder: RunFolder
  readonly #server: VolumeServer
  /** Held from the first request on. The lock of the file is no proof: predecessor and successor have that in common. */
  readonly #turn: ProcessLock
  readonly #shared = makeSharedFiles()
  readonly #snapshots = new Map<number, Snapshot>()
  #nextSnapshot: number
  #owner: Owner | undefined
  #opened: Opened | undefined
  /** The unmount under way. */
  #unmounting: Promise<void> | undefined
  /** The mount's device number, once there is one. */
  #device: DeviceNumber | undefined
  /** How to stop what goes on beside serving. */
  #upkeep: readonly (() => void)[] = []

  /** Loads what it needs, so that `start` or `takeOver` has nothing to wait for but the file. */
  constructor(options: StartOptions, generation: number, logger: Logger) {
    this.#options = options
    this.#generation = generation
    this.#logger = logger
    this.#folder = new RunFolder(options.runFolder)
    this.#turn = new ProcessLock(this.#folder.turn)
    this.#nextSnapshot = generation * snapshotsPerGeneration
    this.#server = new servers[options.driver]()
  }

  /** Resolves when everything is loaded. */
  get loaded(): Promise<undefined> {
    return this.#server.loaded
  }

  /** Takes the file, mounts it and serves; returns once the kernel's INIT is answered. Throws, with everything undone, what went wrong. */
  async start(onWalPressure: (walBytes: number) => void): Promise<Handover> {
    process.title = `litevol: opening ${this.#options.file}`
    const { file, ownerTimeoutMs, holdSnapshot } = this.#options
    this.#owner = await Owner.acquire(file, ownerTimeoutMs, lockFd)
    this.#setTitle('serving')
    try {
      this.#turn.take()
      assertLength(file)
      this.#opened = this.#open()
      if (holdSnapshot) this.#snapshots.set(0, this.#maintenance.acquireSnapshot())
      const handover = await this.#mount(this.#opened)
      this.#folder.writeHandover(handover)
      this.#startUpkeep(onWalPressure)
      return handover
    } catch (error) {
      await this.abandon()
      this.#owner.release()
      throw error
    }
  }

  /** Opens the volume beside the process that serves it, so that `takeOver` need not. One of an older format is left to `takeOver`. */
  async standBy(): Promise<void> {
    const opened = this.#open()
    if (!opened.maintenance.isCurrent) {
      opened.maintenance.close()
      return
    }
    await this.#server.open(this.#parts(opened, true))
    this.#opened = opened
  }

  /**
   * Goes on with the connection of a predecessor that is dead; `restarts` processes of this mount were replaced so far. Throws EBUSY when
   * it is alive.
   */
  async takeOver(restarts: number, onWalPressure: (walBytes: number) => void): Promise<Handover> {
    this.#turn.take()
    const { file } = this.#options
    this.#owner = Owner.inherit(file, lockFd) ?? (await Owner.acquire(file, 0, lockFd)) // the lock is the keeper's: it is ours already
    if (this.#opened === undefined) {
      assertLength(file)
      this.#opened = this.#open()
      await this.#server.open(this.#parts(this.#opened, false))
    }
    this.#opened.lostSync.inherit()
    this.#server.takeOver() // first of all: consumers wait
    this.#setTitle('serving')
    const before = this.#folder.readHandover()
    this.#knowMount(findMount(this.#options.mountpoint)) // gone where the predecessor was unmounting
    this.#startUpkeep(onWalPressure)
    const handover = { ...before, restarts: Number.isNaN(restarts) ? before.restarts + 1 : restarts } // an older keeper says `go`
    this.#folder.writeHandover(handover)
    return handover
  }

  /** Resolves when the mount is gone, whoever unmounted it; rejects when serving failed. */
  get ended(): Promise<undefined> {
    return this.#server.ended
  }

  status(): Calls['status']['reply'] {
    return {
      handles: countHandles(this.#shared),
      writers: writtenInodes(this.#shared).length,
      requests: countRequests(this.#shared),
      walBytes: this.#maintenance.walBytes(),
      snapshots: this.#snapshots.size,
    }
  }

  state(): StateReport {
    return this.#maintenance.state()
  }

  /** Flushes what applications wrote, then holds everything committed. */
  async acquireSnapshot(): Promise<SnapshotReport> {
    await this.#flush()
    await this.#server.settle()
    const held = this.#maintenance.acquireSnapshot()
    const snapshot = this.#nextSnapshot++
    this.#snapshots.set(snapshot, held)
    const { pageSize, pageCount, walFrames, bytesTag } = held
    return { snapshot, pageSize, pageCount, walFrames, bytesTag }
  }

  /** Lets a snapshot go; one that is not held is left alone. */
  releaseSnapshot(snapshot: number): void {
    this.#snapshots.get(snapshot)?.release()
    this.#snapshots.delete(snapshot)
  }

  checkpoint(): CheckpointResult {
    return this.#maintenance.truncateWal()
  }

  /**
   * Ends the mount, written pages flushed. With open handles: EBUSY, or when forced their holders get errors from now on.
   * The caller then calls `finish`.
   */
  async unmount(force: boolean): Promise<void> {
    // A signal and the supervisor's call may come together: the second joins the first, and tries itself only if that failed.
    if (this.#unmounting !== undefined && (await succeeds(this.#unmounting))) return
    this.#unmounting = this.#unmountNow(force)
    try {
      await this.#unmounting
    } finally {
      this.#unmounting = undefined
    }
  }

  async #unmountNow(force: boolean): Promise<void> {
    if (this.#server.isMounted !== true) return
    const handles = countHandles(this.#shared)
    if (!force && handles > 0) throw busy(this.#options.mountpoint, handles)
    this.#setTitle('closing') // whoever wants the file next waits for us
    try {
      if (force) await this.#flushAsFarAsPossible()
      await this.#detach(force)
    } catch (error) {
      this.#setTitle('serving')
      throw error
    }
    for (let looks = 0; this.#server.hasMount; looks++) {
      if (looks === detachLooks) this.#abort()
      await Promise.race([this.ended, sleep(detachPauseMs)])
    }
    await this.ended
  }

  /**
   * Closes the volume after the mount is gone: checkpointed, one file; then gives it back. With `isWatched`, somebody may be
   * reading the snapshots and is given time to stop and release them: the checkpoint changes the bytes under him.
   * Throws EBUSY when he does not: nothing is closed then, what is committed stays in the WAL.
   */
  async finish(isWatched: () => boolean): Promise<void> {
    this.#setTitle('closing')
    for (const stop of this.#upkeep) stop()
    const deadline = Date.now() + releaseTimeoutMs
    while (this.#snapshots.size > 0 && isWatched()) {
      if (Date.now() > deadline) throw new ErrnoError('EBUSY', 'snapshots are still held: the volume is left with its WAL')
      await sleep(releasePollMs)
    }
    for (const id of [...this.#snapshots.keys()]) this.releaseSnapshot(id)
    this.#opened?.maintenance.close()
    await this.#server.close()
    this.#owner?.release()
  }

  #open(): Opened {
    const lostSync = new SharedLostSync(this.#folder)
    const gate = new WriteGate()
    return { maintenance: new Maintenance(this.#options.file, lostSync, gate), lostSync, gate }
  }

  get #maintenance(): Maintenance {
    if (this.#opened === undefined) throw new ErrnoError('EIO', 'volume: is not open')
    return this.#opened.maintenance
  }

  #parts({ maintenance, lostSync, gate }: Opened, isStandingBy: boolean): ServerParts {
    const [options, generation, shared, logger] = [this.#options, this.#generation, this.#shared, this.#logger]
    return { options, generation, isStandingBy, shared, lostSync, gate, maintenance, logger }
  }

  /** Gives everything up after a failure, as far as it goes: what is committed stays in the file and its WAL. */
  async abandon(): Promise<void> {
    if (this.#server.isMounted === true) await unmountFuse(this.#options.mountpoint, { lazy: true, force: true }).catch(() => undefined)
    await this.finish(() => false).catch(() => undefined)
  }

  async #mount(opened: Opened): Promise<Handover> {
    const { mountpoint } = this.#options
    await this.#server.open(this.#parts(opened, false))
    const negotiated = await this.#server.mount()
    const { major, minor } = deviceNumber(mountpoint)
    this.#knowMount({ major, minor })
    return { restarts: 0, negotiated, dirtyLimit: setDirtyLimit({ major, minor, readAheadKb }) }
  }

  #knowMount(mount: DeviceNumber | undefined): void {
    if (mount === undefined) return
    this.#device = mount
    this.#setTitle('serving')
  }

  /** What ps(1) shows, and what whoever wants the file next goes by (engine/owner.ts). */
  #setTitle(state: 'serving' | 'closing'): void {
    const { file, mountpoint } = this.#options
    const device = this.#device
    const place = device === undefined ? '' : ` ${String(device.major)}:${String(device.minor)} ${escapeMountinfo(mountpoint)}`
    process.title = state === 'serving' ? `${servingTitle}${place} ${file}` : `litevol: closing ${file}`
  }

  #startUpkeep(onPressure: (walBytes: number) => void): void {
    const { snapshotWalLimit, isLowLatency } = this.#options
    const [logger, device] = [this.#logger, this.#device]
    const stopCheckpointing = startCheckpointing({ maintenance: this.#maintenance, logger, snapshotWalLimit, onPressure })
    this.#upkeep = [
      stopCheckpointing,
      ...(device === undefined ? [] : [followMemory(device, logger)]),
      ...(isLowLatency ? [startLowLatency(() => countRequests(this.#shared), logger)] : []),
    ]
  }

  async #flush(): Promise<void> {
    const { root } = this.#server
    await flushFiles(this.#options.mountpoint, {
      list: () => writtenInodes(this.#shared),
      paths: (inodes) => this.#maintenance.paths(inodes, root),
    })
  }

  async #flushAsFarAsPossible(): Promise<void> {
    try {
      await this.#flush()
    } catch (error) {
      this.#logger.error({ err: error }, 'unmounting by force: not everything that applications wrote could be flushed')
    }
  }

  /** umount(2); forced, what is busy is detached and its connection aborted. */
  async #detach(force: boolean): Promise<void> {
    const { mountpoint } = this.#options
    try {
      await unmountFuse(mountpoint)
    } catch (error) {
      const code = error instanceof ErrnoError ? error.code : 'EIO'
      if (code === 'EINVAL') return // not mounted any more
      if (!force) throw code === 'EBUSY' ? busy(mountpoint, countHandles(this.#shared)) : error
      await unmountFuse(mountpoint, { lazy: true, force: true })
    }
  }

  /**
   * Ends the connection that a bind in another mount namespace keeps alive: its users get errors, never silence. Call only while it is
   * there: afterwards the kernel gives its number to another mount.
   */
  #abort(): void {
    const isAborted = this.#device !== undefined && abortConnection(this.#device.minor)
    if (!isAborted && !this.#server.hasMount) return // it ended just now
    this.#logger.warn(
      { mountpoint: this.#options.mountpoint },
      'unmounted, but a bind elsewhere goes on using the mount: its connection is ended',
    )
    if (isAborted) return
    // Without fusectl a blocked read cannot be ended. Everything acknowledged is committed; the next owner recovers the WAL.
    this.#logger.error('the connection could not be aborted (is /sys read-only?): this process ends the hard way')
    process.kill(0, 'SIGKILL') // the process group: the keeper would start a successor
  }
}

/** Whether a promise is kept; what it is broken with is its maker's matter. */
function succeeds(promise: Promise<void>): Promise<boolean> {
  return promise.then(
    () => true,
    () => false,
  )
}

function busy(mountpoint: string, handles: number): ErrnoError {
  const message = handles > 0 ? `mount ${mountpoint}: ${String(handles)} open handles` : `mount ${mountpoint}: something in it is in use`
  return new ErrnoError('EBUSY', message, { context: { handles }, hint: 'stop what uses the volume, or unmount by force' })
}
