/**
 * The open file handles of a mount, in memory that both threads of the FUSE process see, and in a file for its successor.
 * Keeps: a handle's slot is set before the kernel learns of it and cleared at its release; one thread writes, the other only reads;
 *   the file, on tmpfs, outlives the process, not the machine; while a RELEASE may come again, no new handle gets a slot that was used.
 * Leaves: what is done with the open files to volume-filesystem.ts (serving) and serving.ts (flushing, busy or not).
 */
import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
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
  #free: Fh[] = []
  #next = 1
  #request = 0

  /** `path` names the handles file: what it holds is taken over, what changes is written to it at once. */
  constructor(shared: SharedFiles, path: string) {
    this.#shared = shared
    this.#slots = new BigInt64Array(shared.slots)
    this.#counters = new Int32Array(shared.counters)
    this.#file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600)
    const { handles, slots } = readHandles(path)
    while (this.#next < slots) this.#newSlot()
    for (const handle of handles) this.#inherit(handle)
  }

  /** No OPEN or RELEASE comes again: what is free may be used, lowest slots first, and the file ends with the last open handle. */
  compact(): void {
    this.#inherited.clear()
    while (this.#next > 1 && Atomics.load(this.#slots, this.#next - 1) === 0n) this.#next--
    this.#free = []
    for (let fh = this.#next - 1; fh > 0; fh--) if (Atomics.load(this.#slots, fh) === 0n) this.#free.push(fh as Fh)
    ftruncateSync(this.#file, this.#next * recordBytes)
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

  /** Takes a handle over. */
  #inherit({ fh, value, request }: InheritedHandle): void {
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

/** The open handles, and how many slots have been in use; slot 0 counts. */
function readHandles(path: string): { readonly handles: InheritedHandle[]; readonly slots: number } {
  const records = readFileSync(path)
  const count = Math.floor(records.length / recordBytes)
  const handles = Array.from({ length: count }, (_, fh) => {
    const at = fh * recordBytes
    return { fh, value: records.readBigInt64LE(at), request: records.readDoubleLE(at + 8) }
  })
  return { handles: handles.filter(({ value }) => value !== 0n), slots: count }
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
