/**
 * Faults on demand, in front of a disk: a power cut after so many requests, errors for chosen operations on chosen files.
 * Keeps: after the cut every request is EIO. An error is given instead of the operation, which then changed nothing; a sync that
 *   fails loses what it should have written.
 * Leaves: what survives a cut to faulty-disk.ts, telling it what to do to control.ts.
 */
import { ErrnoError, type Nodeid } from '../../src/base/index.ts'
import type { Filesystem } from '../../src/fuse/index.ts'
import type { FaultyDisk } from './faulty-disk.ts'
import { seededNumbers } from '../support.ts'

/** A power cut: what is left is written to `folder`, which must not exist. */
export interface CutOrder {
  readonly folder: string
  readonly seed: number
  /** Requests that change or sync something and are served before it; 0: now. */
  readonly after: number
}

/** Errors: the next `count` requests of that kind, on files whose name ends with `suffix`, get `code`; the first `skip` are let pass. */
export interface FailOrder {
  readonly operation: Operation
  readonly code: 'EIO' | 'ENOSPC'
  readonly count: number
  readonly skip?: number
  readonly suffix?: string
}

export type Operation = 'write' | 'fsync' | 'read' | 'setattr' | 'create' | 'rename' | 'unlink' | 'open'

export type Order = { readonly cut: CutOrder } | { readonly fail: readonly FailOrder[] }

/** What `status` tells. */
export interface Status {
  readonly isCut: boolean
  /** Requests that change or sync something. */
  readonly changes: number
  readonly syncs: number
  /** Errors given on demand. */
  readonly failures: number
}

const changing: ReadonlySet<string> = new Set(['setattr', 'mknod', 'mkdir', 'symlink', 'link', 'unlink', 'rmdir', 'rename', 'create', 'write', 'fsync']) // prettier-ignore

/** Chances of a page or name to survive: none, all, and between. */
const chances = [0, 0.1, 0.5, 0.9, 1]

/** The extended attribute of the disk's root that takes orders and tells the status, both as JSON. */
export const controlName = 'user.litevol.faults'

export class FaultGate {
  readonly #disk: FaultyDisk
  #cut: CutOrder | undefined
  #failing: { order: FailOrder; skip: number; count: number }[] = []
  #status: Status = { isCut: false, changes: 0, syncs: 0, failures: 0 }

  constructor(disk: FaultyDisk) {
    this.#disk = disk
  }

  /** The disk with the gate in front of it. */
  get filesystem(): Filesystem {
    const control: Partial<Filesystem> = {
      setxattr: (_nodeid, name, value) => {
        this.#order(name, value)
      },
      getxattr: (_nodeid, name) => this.#tell(name),
      begin: () => undefined,
      recall: () => undefined,
      catchUp: () => undefined,
      forget: () => undefined,
      release: () => undefined,
    }
    return new Proxy<Filesystem>(this.#disk, {
      get: (disk, key) => {
        const own: unknown = Reflect.get(control, key)
        const method: unknown = own ?? Reflect.get(disk, key)
        if (own !== undefined || typeof method !== 'function' || typeof key !== 'string') return method
        return (...args: unknown[]): unknown => {
          this.#pass(key, args)
          return Reflect.apply(method, disk, args)
        }
      },
    })
  }

  #order(name: Buffer, value: Buffer): void {
    if (name.toString() !== controlName) throw new ErrnoError('EOPNOTSUPP', 'the faulty disk keeps no attributes')
    const order = JSON.parse(value.toString()) as Order
    if ('fail' in order) this.#failing = order.fail.map((one) => ({ order: one, skip: one.skip ?? 0, count: one.count }))
    else if (!this.#status.isCut) {
      // Once: the cut that was ordered before this one may just have happened.
      this.#cut = { ...order.cut, after: this.#status.changes + order.cut.after }
      if (order.cut.after === 0) this.#cutNow(this.#cut)
    }
  }

  #tell(name: Buffer): Buffer {
    if (name.toString() !== controlName) throw new ErrnoError('ENODATA', 'the faulty disk keeps no attributes')
    return Buffer.from(JSON.stringify(this.#status))
  }

  /** Lets a request pass or throws its error. */
  #pass(operation: string, args: readonly unknown[]): void {
    if (changing.has(operation)) {
      if (this.#cut !== undefined && !this.#status.isCut && this.#status.changes >= this.#cut.after) this.#cutNow(this.#cut)
      const syncs = this.#status.syncs + (operation === 'fsync' ? 1 : 0)
      this.#status = { ...this.#status, changes: this.#status.changes + 1, syncs }
    }
    const [nodeid, name] = args
    if (operation === 'getattr' && nodeid === 1) return // the control's way in
    if (this.#status.isCut) throw new ErrnoError('EIO', 'the power is off')
    for (const failing of this.#failing) {
      const { order } = failing
      if (order.operation !== operation || failing.count === 0) continue
      const target = Buffer.isBuffer(name) ? name.toString() : this.#disk.nameOf(Number(nodeid))
      if (!target.endsWith(order.suffix ?? '')) continue
      if (failing.skip-- > 0) continue
      failing.count--
      this.#status = { ...this.#status, failures: this.#status.failures + 1 }
      if (operation === 'fsync') this.#disk.failSync(nodeid as Nodeid)
      throw new ErrnoError(order.code, `${operation} of ${target}: fails as ordered`)
    }
  }

  #cutNow({ folder, seed }: CutOrder): void {
    this.#status = { ...this.#status, isCut: true }
    const next = seededNumbers(seed)
    const random = (): number => next() / 2 ** 32
    this.#disk.writeSurvivors(folder, chances[Math.floor(random() * chances.length)] ?? 0, random)
  }
}
