/**
 * The open file handles of a mount, in memory that both threads of the FUSE process see.
 * Keeps: a handle's slot is set before the kernel learns of it and cleared at its release; one thread writes, the other only reads.
 * Leaves: what is done with the open files to volume-filesystem.ts (serving) and serving.ts (flushing, busy or not).
 */
import { ErrnoError, type Fh, type Ino } from '../base/index.ts'

/** Slots at the start, and at most: a million open files at once. */
const firstSlots = 4096
const maximumSlots = 1 << 20
const slotBytes = BigInt64Array.BYTES_PER_ELEMENT

/** Counters beside the slots. */
const HANDLES = 0
const REQUESTS = 1

/** The memory that the two threads share. */
export interface SharedFiles {
  /** Slot `fh`: the ino open for writing, minus the ino open for reading only, or 0 when free. Slot 0 is never used. */
  readonly slots: SharedArrayBuffer
  /** Open handles; requests served (wraps). */
  readonly counters: SharedArrayBuffer
}

/** Makes the shared memory of one mount. */
export function makeSharedFiles(): SharedFiles {
  const slots = new SharedArrayBuffer(firstSlots * slotBytes, { maxByteLength: maximumSlots * slotBytes })
  return { slots, counters: new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT) }
}

/** The serving thread's side. */
export class OpenFiles {
  readonly #shared: SharedFiles
  readonly #slots: BigInt64Array
  readonly #counters: Int32Array
  /** Slots given back; taken before new ones. */
  readonly #free: Fh[] = []
  #next = 1

  constructor(shared: SharedFiles) {
    this.#shared = shared
    this.#slots = new BigInt64Array(shared.slots)
    this.#counters = new Int32Array(shared.counters)
  }

  /** Notes one more handle and returns its number. Throws EAGAIN when a million are open. */
  open(ino: Ino, isWritable: boolean): Fh {
    const fh = this.#free.pop() ?? this.#newSlot()
    Atomics.store(this.#slots, fh, BigInt(isWritable ? ino : -ino))
    Atomics.add(this.#counters, HANDLES, 1)
    return fh
  }

  /** Forgets a handle; one that is not open is left alone. */
  release(fh: Fh): void {
    if (fh <= 0 || fh >= this.#next || Atomics.exchange(this.#slots, fh, 0n) === 0n) return
    this.#free.push(fh)
    Atomics.sub(this.#counters, HANDLES, 1)
  }

  /** Counts a request. */
  count(): void {
    Atomics.add(this.#counters, REQUESTS, 1)
  }

  #newSlot(): Fh {
    if (this.#next === maximumSlots) throw new ErrnoError('EAGAIN', `open files: ${String(maximumSlots)} are open`)
    if (this.#next === this.#slots.length) this.#shared.slots.grow(this.#shared.slots.byteLength * 2)
    return this.#next++ as Fh
  }
}

/** Open handles, as the other thread sees them. */
export function countHandles({ counters }: SharedFiles): number {
  return Atomics.load(new Int32Array(counters), HANDLES)
}

/** Requests served so far. */
export function countRequests({ counters }: SharedFiles): number {
  return Atomics.load(new Int32Array(counters), REQUESTS) >>> 0
}

/** The inodes that are open for writing now, each once. */
export function writtenInodes({ slots }: SharedFiles): Ino[] {
  const inodes = new Set<Ino>()
  for (const slot of new BigInt64Array(slots)) if (slot > 0n) inodes.add(Number(slot) as Ino)
  return [...inodes]
}
