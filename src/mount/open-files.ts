/**
 * The open file handles of a mount, in memory that both threads of the FUSE process see, and in a file for its successor.
 * Keeps: a handle's slot is set before the kernel learns of it and cleared at its release; one thread writes, the other only reads;
 *   the file, on tmpfs, outlives the process, not the machine.
 * Leaves: what is done with the open files to volume-filesystem.ts (serving) and serving.ts (flushing, busy or not).
 */
import { closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs'
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

/** A handle that a predecessor has given out. */
interface InheritedHandle {
  readonly fh: number
  /** As in a slot. */
  readonly value: bigint
  /** The request that opened it. */
  readonly request: number
}

/** A record of the handles file: the slot's value, then the number of the request that opened it; both 64 bits. */
const recordBytes = 16

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
  readonly #file: number
  readonly #record = Buffer.alloc(recordBytes)
  /** Handles of a predecessor by the request that opened them: it may be sent again. */
  readonly #inherited = new Map<number, Fh>()
  /** Slots given back; taken before new ones. */
  readonly #free: Fh[] = []
  #next = 1
  #request = 0

  /** `path` names the handles file: what it holds is taken over, what changes is written to it at once. */
  constructor(shared: SharedFiles, path: string) {
    this.#shared = shared
    this.#slots = new BigInt64Array(shared.slots)
    this.#counters = new Int32Array(shared.counters)
    this.#file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600)
    for (const handle of readHandles(path)) this.#inherit(handle)
  }

  /** Counts a request; a handle that is opened now is its. */
  begin(request: number): void {
    this.#request = request
    Atomics.add(this.#counters, REQUESTS, 1)
  }

  /** Notes one more handle and returns its number: for a request sent again, the number it got before. Throws EAGAIN when a million are open. */
  open(ino: Ino, isWritable: boolean): Fh {
    const known = this.#inherited.get(this.#request)
    if (known !== undefined) return known
    const fh = this.#free.pop() ?? this.#newSlot()
    this.#write(fh, BigInt(isWritable ? ino : -ino))
    Atomics.add(this.#counters, HANDLES, 1)
    return fh
  }

  /** Whether a handle of the inode is open. Goes through all of them: ask seldom. */
  isOpen(ino: Ino): boolean {
    const [reading, writing] = [BigInt(-ino), BigInt(ino)]
    return this.#slots.subarray(0, this.#next).some((slot) => slot === reading || slot === writing)
  }

  /** Forgets a handle; one that is not open is left alone. */
  release(fh: Fh): void {
    if (fh <= 0 || fh >= this.#next || Atomics.load(this.#slots, fh) === 0n) return
    this.#write(fh, 0n)
    this.#free.push(fh)
    Atomics.sub(this.#counters, HANDLES, 1)
  }

  close(): void {
    closeSync(this.#file)
  }

  /** The file first: a successor may know of a handle that nobody got, but must not miss one. */
  #write(fh: Fh, value: bigint): void {
    this.#record.writeBigInt64LE(value, 0)
    this.#record.writeDoubleLE(this.#request, 8)
    writeSync(this.#file, this.#record, 0, recordBytes, fh * recordBytes)
    Atomics.store(this.#slots, fh, value)
  }

  /** Takes a handle over. Free slots between are left alone: a RELEASE that comes again must not hit a new handle. */
  #inherit({ fh, value, request }: InheritedHandle): void {
    while (this.#next <= fh + 1) this.#newSlot()
    Atomics.store(this.#slots, fh, value)
    Atomics.add(this.#counters, HANDLES, 1)
    this.#inherited.set(request, fh as Fh)
  }

  #newSlot(): Fh {
    if (this.#next === maximumSlots) throw new ErrnoError('EAGAIN', `open files: ${String(maximumSlots)} are open`)
    if (this.#next === this.#slots.length) this.#shared.slots.grow(this.#shared.slots.byteLength * 2)
    return this.#next++ as Fh
  }
}

function readHandles(path: string): InheritedHandle[] {
  const records = readFileSync(path)
  const count = Math.floor(records.length / recordBytes)
  const handles = Array.from({ length: count }, (_, fh) => {
    const at = fh * recordBytes
    return { fh, value: records.readBigInt64LE(at), request: records.readDoubleLE(at + 8) }
  })
  return handles.filter(({ value }) => value !== 0n)
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
