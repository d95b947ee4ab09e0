/**
 * A snapshot as long as somebody may want its bytes: while it is read on, and for the lease time after that.
 * Keeps: its streams are destroyed, and its files closed, before the snapshot is released; a destroyed stream never ends cleanly.
 * Leaves: which lease serves a request to exports.ts.
 */
import type { Readable } from 'node:stream'
import { ErrnoError } from '../base/index.ts'
import type { ManagerOptions } from './options.ts'
import { SnapshotBytes, type SnapshotExtent } from './snapshot-bytes.ts'

/** Who holds a snapshot for us. */
export interface SnapshotHolder extends Pick<SnapshotExtent, 'isHeld'> {
  /** Lets it go: its bytes may change from then on. */
  readonly release: () => Promise<void>
}

/** A snapshot that somebody holds for us. */
export interface HeldSnapshot extends SnapshotExtent, SnapshotHolder {
  /** Names exactly these bytes. */
  readonly bytesTag: string
}

export type LeaseOptions = Pick<ManagerOptions, 'exportLeaseMs' | 'exportStallMs'>

export class Lease {
  readonly #bytes: SnapshotBytes
  readonly #options: LeaseOptions
  readonly #onExpiry: (lease: Lease) => void
  readonly #streams = new Set<Readable>()
  /** Ranges whose download broke off: from where to where bytes were handed out. */
  readonly #cuts: { readonly start: number; readonly end: number }[] = []
  /** Requests that look at it, with a stream or before one. */
  #pins = 0
  #timer: NodeJS.Timeout | undefined
  /** A copy of its own, which `#bytes` asks as well: the holder may change. */
  readonly #held: HeldSnapshot

  private constructor(held: HeldSnapshot, bytes: SnapshotBytes, options: LeaseOptions, onExpiry: (lease: Lease) => void) {
    this.#held = held
    this.#bytes = bytes
    this.#options = options
    this.#onExpiry = onExpiry
  }

  /** Opens the bytes of a held snapshot; gives the snapshot back when that fails. `onExpiry` is called when the lease time is over. */
  static async open(held: HeldSnapshot, options: LeaseOptions, onExpiry: (lease: Lease) => void): Promise<Lease> {
    const own = { ...held }
    try {
      return new Lease(own, await SnapshotBytes.open(own), options, onExpiry)
    } catch (error) {
      await held.release().catch(() => undefined) // it may have failed since the holder is gone
      throw error
    }
  }

  /** Names exactly the bytes. */
  get tag(): string {
    return this.#held.bytesTag
  }

  get size(): number {
    return this.#bytes.size
  }

  /** Whether the bytes are still there: a process that was killed lets go without a word. */
  get isHeld(): boolean {
    return this.#bytes.isHeld
  }

  get isIdle(): boolean {
    return this.#pins === 0
  }

  /** Nobody's download of it broke off: nobody needs it to go on. */
  get isComplete(): boolean {
    return this.isIdle && this.#cuts.length === 0
  }

  /** How many downloads run. */
  get streams(): number {
    return this.#streams.size
  }

  /** Whether a download that broke off may want to go on at `offset`. */
  mayResumeAt(offset: number): boolean {
    return this.#cuts.some(({ start, end }) => start <= offset && offset <= end)
  }

  /** Keeps it alive until `unpin`. */
  pin(): void {
    this.#pins++
    clearTimeout(this.#timer)
  }

  /** The reverse of `pin`; after the last one the lease time runs. */
  unpin(): void {
    this.#pins--
    if (this.#pins > 0) return
    this.#timer = setTimeout(() => {
      this.#onExpiry(this)
    }, this.#options.exportLeaseMs)
    this.#timer.unref()
  }

  /** A stream of bytes `start` to `end`, not including `end`; it fails when nobody reads on. `onClose` is called when it is over, whole or not. */
  stream(start: number, end: number, onClose: () => void): Readable {
    let reached = start
    const stream = this.#bytes.stream(start, end, (offset) => {
      reached = offset
      stall.refresh()
    })
    const { exportStallMs } = this.#options
    const stall = setTimeout(() => {
      stream.destroy(new ErrnoError('ETIMEDOUT', `export: broken off: nobody has read on for ${String(exportStallMs / 1000)} s`))
    }, exportStallMs).unref()
    stream.on('error', () => undefined) // its reader gets it too; without a reader it must not end this process
    this.#streams.add(stream)
    stream.once('close', () => {
      clearTimeout(stall)
      this.#streams.delete(stream)
      if (!stream.readableEnded) this.#cuts.push({ start, end: reached })
      onClose()
    })
    return stream
  }

  /** From now on somebody else holds the snapshot: the FUSE process that was started meanwhile, not the unmounted file. */
  setHolder(holder: SnapshotHolder): void {
    Object.assign(this.#held, holder)
  }

  /** Breaks the streams off, closes the files, then lets the snapshot go. */
  async end(reason: string): Promise<void> {
    clearTimeout(this.#timer)
    for (const stream of this.#streams) stream.destroy(new ErrnoError('ESTALE', `export: broken off: ${reason}`))
    await this.#bytes.close()
    await this.#held.release()
  }
}
