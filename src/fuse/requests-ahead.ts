/**
 * Requests read ahead: while the serving thread works on one large WRITE after the other, a second thread takes the next one out of the
 *   device, into memory that both see.
 * Keeps: requests are served in the order in which they were read; the two never read the device at the same time; where nobody writes
 *   much the serving thread reads by itself, since to be woken takes as long as a small request. A process that is killed with some read
 *   and not answered needs a kernel that sends them again.
 * Leaves: starting that thread to mount/helper-threads.ts, when to begin to session.ts. Little of ours is imported: the reading thread
 *   loads it too.
 *
 * The control words, in shared memory: whether a reader is there, whether it is to read; then for each slot its state, and the length of
 *   the request in it or the negated errno that read(2) failed with.
 */
import { readSync } from 'node:fs'
import { opcodes } from './constants.ts'
import { prefaulted, type Bytes } from './prefaulted.ts'

/** One is served, one waits, so that its content is known before it is its turn, and one is read. */
const slotCount = 3

/** Counts up with every change of what lies where, or of what a large WRITE is: the reading thread may be loaded from newer files than the rest
 *  of its process. */
const layout = 2

/** Places of the control words. */
const readerAt = 0
const wantedAt = 1
const firstSlotAt = 2
const slotWords = 2

/** States of a slot. */
const EMPTY = 0
const FULL = 1

/** `opcode` in fuse_in_header of linux/fuse.h. */
const opcodeAt = 4

/** A WRITE of so many bytes takes longer than to tell another thread of it. Among those of 1 MiB the kernel sends some of 100 to 250 KiB, when
 *  it keeps who writes waiting for clean pages. */
const largeBytes = 1 << 16

/** Codes of read(2) on the device that mean: try again. ENOENT: the request was interrupted before it was read. */
const readAgain: ReadonlySet<string | undefined> = new Set(['ENOENT', 'EINTR', 'EAGAIN'])

/** The memory that both threads see. */
export interface RequestsAheadMemory {
  /** `layout` of the module that has made it. */
  readonly layout: number
  readonly deviceFd: number
  readonly control: SharedArrayBuffer
  readonly slots: readonly SharedArrayBuffer[]
}

/** A request that was read: its length, or the negated errno that read(2) failed with. */
export interface ReadRequest {
  readonly bytes: Bytes
  readonly length: number
}

/** Reads one request into `buffer`; returns its length, or the negated errno. 0: none came, read again. */
export function readRequest(deviceFd: number, buffer: Buffer): number {
  try {
    return readSync(deviceFd, buffer, 0, buffer.length, null)
  } catch (error) {
    const { code, errno } = error as NodeJS.ErrnoException
    if (readAgain.has(code)) return 0
    if (errno === undefined || errno >= 0) throw error
    return errno
  }
}

/** Whether a request is a WRITE that takes longer than to tell another thread of it. */
export function isLargeWrite(request: Buffer, length: number): boolean {
  return length >= largeBytes && request.readUInt32LE(opcodeAt) === opcodes.WRITE
}

/** Whether a thread has begun to run `readRequests` there: it may hold a request. */
export function hasReader({ control }: RequestsAheadMemory): boolean {
  return Atomics.load(new Int32Array(control), readerAt) === 1
}

/** The side of the thread that serves. */
export class RequestsAhead {
  readonly memory: RequestsAheadMemory
  readonly #words: Int32Array
  readonly #slots: readonly Bytes[]
  #slot = 0

  /** Requests are at most `requestBytes` long. */
  constructor(deviceFd: number, requestBytes: number) {
    const control = new SharedArrayBuffer(4 * (firstSlotAt + slotCount * slotWords))
    this.#slots = Array.from({ length: slotCount }, () => prefaulted(requestBytes))
    this.#words = new Int32Array(control)
    this.memory = { layout, deviceFd, control, slots: this.#slots.map(({ memory }) => memory) }
  }

  /** Whether a thread runs `readRequests`. */
  get hasReader(): boolean {
    return hasReader(this.memory)
  }

  /** Has it read from now on, up to the first request that is no large WRITE: that one ends it. */
  begin(): void {
    Atomics.store(this.#words, wantedAt, 1)
    Atomics.notify(this.#words, wantedAt)
  }

  /** The next request, which stays as it is until `release`. Waits for it. */
  next(): ReadRequest {
    waitWhile(this.#words, stateAt(this.#slot), EMPTY)
    return this.#read(this.#slot)
  }

  /** The one behind it, if it was read by now. */
  following(): ReadRequest | undefined {
    const slot = (this.#slot + 1) % slotCount
    return Atomics.load(this.#words, stateAt(slot)) === FULL ? this.#read(slot) : undefined
  }

  /** The next request is served: its slot is the reader's. */
  release(): void {
    setState(this.#words, this.#slot, EMPTY)
    this.#slot = (this.#slot + 1) % slotCount
  }

  #read(slot: number): ReadRequest {
    const bytes = this.#slots[slot]
    if (bytes === undefined) throw new Error(`requests ahead: no slot ${String(slot)}`)
    return { bytes, length: Atomics.load(this.#words, lengthAt(slot)) }
  }
}

/** Reads requests whenever the other side wants it, until its thread is ended; returns at once where it knows the memory in another layout. */
export function readRequests({ layout: theirs, deviceFd, control, slots }: RequestsAheadMemory): void {
  if (theirs !== layout) return
  const words = new Int32Array(control)
  const buffers = slots.map((memory) => Buffer.from(memory))
  Atomics.store(words, readerAt, 1)
  for (;;) {
    for (const [slot, buffer] of buffers.entries()) {
      waitWhile(words, wantedAt, 0)
      waitWhile(words, stateAt(slot), FULL)
      let length = 0
      while (length === 0) length = readRequest(deviceFd, buffer)
      if (!isLargeWrite(buffer, length)) Atomics.store(words, wantedAt, 0)
      Atomics.store(words, lengthAt(slot), length)
      setState(words, slot, FULL)
    }
  }
}

function stateAt(slot: number): number {
  return firstSlotAt + slot * slotWords
}

function lengthAt(slot: number): number {
  return stateAt(slot) + 1
}

function setState(words: Int32Array, slot: number, state: number): void {
  Atomics.store(words, stateAt(slot), state)
  Atomics.notify(words, stateAt(slot))
}

function waitWhile(words: Int32Array, at: number, value: number): void {
  while (Atomics.load(words, at) === value) Atomics.wait(words, at, value)
}
