/**
 * The exports of one volume: which snapshot serves which request, and how long each is held.
 * Keeps: a request that does not go on with an earlier one sees everything written before it; one that does gets the same bytes,
 *   or is told that it cannot; no more than `maxLeases` snapshots are held.
 * Leaves: HTTP's headers to api/export.ts, getting a snapshot to volume.ts.
 */
import type { Readable } from 'node:stream'
import { ErrnoError, type Logger } from '../base/index.ts'
import { Lease, type HeldSnapshot, type LeaseOptions, type SnapshotHolder } from './lease.ts'
import type { ManagerOptions } from './options.ts'

/**
 * What a request wants. `fresh`: the bytes as they are now. `resume`: part of the bytes named by `tag` (If-Range).
 * `rest`: everything from `offset` on without saying of which bytes, as `curl -C -` does: it goes on with an earlier download.
 * `part`: a piece from the middle, without saying of which bytes: of the newest that are held, or of now.
 */
export type ExportWish =
  | { readonly kind: 'fresh' }
  | { readonly kind: 'resume'; readonly tag: string }
  | { readonly kind: 'rest'; readonly offset: number }
  | { readonly kind: 'part' }

/** The bytes that answer a request. Either `stream` or `close` must be called, once. */
export interface ExportView {
  /** Names exactly these bytes. */
  readonly tag: string
  readonly size: number
  /** Whether a part may be sent; otherwise the whole must be. */
  readonly mayBePartial: boolean
  /** Bytes `start` to `end`, not including `end`. The stream fails rather than to end short. */
  stream(start: number, end: number): Readable
  close(): void
}

/** The most snapshots held for one volume. */
const maxLeases = 8

type ExportOptions = LeaseOptions & Pick<ManagerOptions, 'exportWalLimit'>

/** How long the word of the FUSE process counts that the WAL grows too long, in ms: it comes every second. */
const pressureMs = 2000

/** The most tags that are remembered as sent. */
const maxSentTags = 1000

export class Exports {
  readonly #options: ExportOptions
  readonly #log: Logger
  /** Oldest first. */
  readonly #leases = new Set<Lease>()
  /** Of leases that are none any more: their files may be open still. */
  readonly #endings = new Set<Promise<void>>()
  /** Tags of all bytes sent so far: a client that goes on without a tag may have begun with any of them. */
  readonly #sentTags = new Set<string>()
  /** Until when the WAL counts as too long. */
  #pressedUntil = 0

  constructor(options: ExportOptions, log: Logger) {
    this.#options = options
    this.#log = log
  }

  /** Downloads that run. */
  get streams(): number {
    return [...this.#leases].reduce((sum, lease) => sum + lease.streams, 0)
  }

  get hasLeases(): boolean {
    return this.#leases.size > 0
  }

  /** Finds or makes the view for a wish; `acquire` holds a snapshot of now. Throws EAGAIN when too many are held, or what `acquire` throws. */
  async open(wish: ExportWish, acquire: () => Promise<HeldSnapshot>): Promise<ExportView> {
    await this.#endLost()
    const live = this.#findLive(wish)
    if (live !== undefined) return this.#view(live, true)
    const fresh = await this.#acquire(acquire)
    return this.#view(fresh, this.#isSafe(wish, fresh))
  }

  /**
   * Snapshots have cost this much WAL, more than half of the limit: gives up those that were wholly delivered, also before the next
   * is taken, so that downloads one after the other let the WAL start anew. Past the limit, all: downloads break off.
   */
  async relieve(walBytes: number): Promise<void> {
    this.#pressedUntil = Date.now() + pressureMs
    if (walBytes <= this.#options.exportWalLimit) {
      await this.endComplete()
      return
    }
    this.#log.warn({ walBytes, leases: this.#leases.size, streams: this.streams }, 'snapshots given up: the WAL is past its limit')
    await this.endAll('the WAL is past its limit')
  }

  /** Gives up snapshots that were wholly delivered and that nobody reads: a checkpoint then gets further. */
  async endComplete(): Promise<void> {
    const complete = [...this.#leases].filter((lease) => lease.isComplete)
    await Promise.all(complete.map((lease) => this.#end(lease, 'the WAL is to be copied')))
  }

  /** Ends all: streams break off, snapshots are released, and no file of one is open any more, whoever has ended it. */
  async endAll(reason: string): Promise<void> {
    await Promise.all([...this.#leases].map((lease) => this.#end(lease, reason)))
    await Promise.all(this.#endings)
  }

  /** From now on `holder` has the snapshot of the file, the only one an unmounted volume has. */
  handOver(holder: SnapshotHolder): void {
    for (const lease of this.#leases) lease.setHolder(holder)
  }

  /** Ends those whose holder died: he may have done so before the lease was made, and whoever ended all did not see it. */
  async #endLost(): Promise<void> {
    const lost = [...this.#leases].filter((lease) => !lease.isHeld)
    await Promise.all(lost.map((lease) => this.#end(lease, 'the FUSE process is gone')))
  }

  #findLive(wish: ExportWish): Lease | undefined {
    const leases = [...this.#leases]
    switch (wish.kind) {
      case 'fresh':
        return undefined
      case 'resume':
        return leases.find((lease) => lease.tag === wish.tag)
      case 'part':
        return leases.at(-1)
      case 'rest': {
        const cut = leases.filter((lease) => lease.mayResumeAt(wish.offset))
        if (cut.length === 1) return cut[0]
        return leases.findLast((lease) => this.#isOnlySent(lease.tag))
      }
      default:
        return wish satisfies never
    }
  }

  /** Whether a part of `fresh` is what the client means, or past its end. */
  #isSafe(wish: ExportWish, fresh: Lease): boolean {
    switch (wish.kind) {
      case 'fresh':
      case 'part':
        return true
      case 'resume':
        return fresh.tag === wish.tag
      case 'rest':
        return wish.offset >= fresh.size || this.#sentTags.size === 0 || this.#isOnlySent(fresh.tag)
      default:
        return wish satisfies never
    }
  }

  #isOnlySent(tag: string): boolean {
    return this.#sentTags.size === 1 && this.#sentTags.has(tag)
  }

  async #acquire(acquire: () => Promise<HeldSnapshot>): Promise<Lease> {
    if (Date.now() < this.#pressedUntil) await this.endComplete()
    await this.#makeRoom()
    const held = await acquire()
    const same = [...this.#leases].find((lease) => lease.tag === held.bytesTag && lease.isHeld)
    if (same !== undefined) {
      same.pin() // releasing takes a moment, in which the lease must not run out
      await held.release()
      same.unpin()
      return same
    }
    const lease = await Lease.open(held, this.#options, (expired) => void this.#end(expired, 'the lease is over'))
    this.#leases.add(lease)
    return lease
  }

  async #makeRoom(): Promise<void> {
    if (this.#leases.size < maxLeases) return
    const idle = [...this.#leases].filter((lease) => lease.isIdle)
    const victim = idle.find((lease) => lease.isComplete) ?? idle[0]
    if (victim === undefined) {
      throw new ErrnoError('EAGAIN', `export: ${String(maxLeases)} snapshots of this volume are being read`, {
        problem: 'too_many_exports',
        hint: 'try again when a download is over',
      })
    }
    await this.#end(victim, 'room for a newer one')
  }

  #view(lease: Lease, mayBePartial: boolean): ExportView {
    lease.pin()
    let isOpen = true
    const close = (): void => {
      if (isOpen) lease.unpin()
      isOpen = false
    }
    const stream = (start: number, end: number): Readable => {
      this.#remember(lease.tag)
      return lease.stream(start, end, close)
    }
    return { tag: lease.tag, size: lease.size, mayBePartial, stream, close }
  }

  #remember(tag: string): void {
    this.#sentTags.add(tag)
    const [oldest] = this.#sentTags
    if (this.#sentTags.size > maxSentTags && oldest !== undefined) this.#sentTags.delete(oldest)
  }

  async #end(lease: Lease, reason: string): Promise<void> {
    if (!this.#leases.delete(lease)) return
    const ending = lease.end(reason).catch((error: unknown) => {
      this.#log.warn({ err: error, tag: lease.tag }, 'a snapshot could not be released') // its FUSE process is gone, or is stuck
    })
    this.#endings.add(ending)
    await ending
    this.#endings.delete(ending)
  }
}
