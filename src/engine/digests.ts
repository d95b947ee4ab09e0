/**
 * Digests of content that is written: the SHA-256 that names a chunk, the CRC-32 of each of its pieces. They are a quarter of the work of a
 *   large write, so a second thread computes ahead those of content that lies in memory shared with it. (Reading gains nothing by it: 28 %
 *   less throughput, measured. A CRC takes less time than telling another thread.)
 * Keeps: an answer is that of the very bytes that were asked about: the other thread is done with them, or has not begun, before they may
 *   change; without it, or when it does not answer, everything is computed here.
 * Leaves: starting that thread (digest-thread.ts) to who has the volume open; what a digest is for to codec.ts.
 *
 * The board, in shared memory: two words (a bell that rings for each job, whether a helper is there), then for each job its fields and
 *   its answers. A job is free until one of the two threads claims it.
 */
import { addressLength, checksum, chunkAddress } from './checksums.ts'
import { blockSize, pieceSize, piecesPerChunk } from './schema.ts'

/** As many as a request of 1 MiB has whole blocks, and then some. */
const mostJobs = 16

/** Places on the board, in words of 32 bits. */
const bellAt = 0
const helperAt = 1
const firstJobAt = 16

/** Places in a job. */
const stateAt = 0
const memoryAt = 1
const offsetAt = 2
const lengthAt = 3
const checksumsAt = 4
const addressAt = checksumsAt + piecesPerChunk
const jobWords = addressAt + addressLength / 4

const boardBytes = 4 * (firstJobAt + mostJobs * jobWords)

/** States of a job; one that is done is nobody's. */
const FREE = 0
const CLAIMED = 1
const DONE = 2

/** A helper that needs longer than this for one job, in ms, is not counted on any more. */
const patienceMs = 2000

/** The memory that both threads see. */
export interface DigestMemory {
  readonly board: SharedArrayBuffer
  /** Where content may lie. */
  readonly contents: readonly SharedArrayBuffer[]
}

/** Both threads' view of the board. */
class Board {
  readonly #words: Int32Array
  readonly #bytes: Buffer
  readonly #contents: readonly Buffer[]

  constructor({ board, contents }: DigestMemory) {
    this.#words = new Int32Array(board)
    this.#bytes = Buffer.from(board)
    this.#contents = contents.map((memory) => Buffer.from(memory))
  }

  /** A thread serves the board from now on. */
  announceHelper(): void {
    Atomics.store(this.#words, helperAt, 1)
  }

  /** Whether there is one, and it sees that content. */
  canHelpWith(content: Buffer): boolean {
    return Atomics.load(this.#words, helperAt) === 1 && content.length <= blockSize && this.#memoryOf(content) >= 0
  }

  /** How often the bell has rung. */
  get rings(): number {
    return Atomics.load(this.#words, bellAt)
  }

  /** Waits until it has rung more often. */
  awaitRing(rings: number): void {
    Atomics.wait(this.#words, bellAt, rings)
  }

  /** Makes a job anybody's. The one that had its place is done. */
  offer(job: number, content: Buffer): void {
    this.#words[at(job, memoryAt)] = this.#memoryOf(content)
    this.#words[at(job, offsetAt)] = content.byteOffset
    this.#words[at(job, lengthAt)] = content.length
    Atomics.store(this.#words, at(job, stateAt), FREE)
    Atomics.add(this.#words, bellAt, 1)
    Atomics.notify(this.#words, bellAt)
  }

  /** Takes a free job; returns whether it is this thread's now. */
  claim(job: number): boolean {
    return Atomics.compareExchange(this.#words, at(job, stateAt), FREE, CLAIMED) === FREE
  }

  /** Does a job that this thread has claimed. */
  work(job: number): void {
    const offset = this.#word(job, offsetAt)
    const memory = this.#contents[this.#word(job, memoryAt)] ?? Buffer.alloc(0)
    const content = memory.subarray(offset, offset + this.#word(job, lengthAt))
    chunkAddress(content).copy(this.#bytes, 4 * at(job, addressAt))
    for (let piece = 0; piece * pieceSize < content.length; piece++) {
      this.#words[at(job, checksumsAt + piece)] = checksum(content.subarray(piece * pieceSize, (piece + 1) * pieceSize))
    }
    this.finish(job)
  }

  /** It is nobody's any more. */
  finish(job: number): void {
    Atomics.store(this.#words, at(job, stateAt), DONE)
    Atomics.notify(this.#words, at(job, stateAt))
  }

  /** Waits as long as the other thread has the job. Returns false when that does not end. */
  await(job: number): boolean {
    const state = at(job, stateAt)
    while (Atomics.load(this.#words, state) === CLAIMED) {
      if (Atomics.wait(this.#words, state, CLAIMED, patienceMs) === 'timed-out') return false
    }
    return true
  }

  address(job: number): Buffer {
    const start = 4 * at(job, addressAt)
    return Buffer.from(this.#bytes.subarray(start, start + addressLength))
  }

  checksum(job: number, piece: number): number {
    return this.#word(job, checksumsAt + piece)
  }

  #word(job: number, field: number): number {
    return this.#words[at(job, field)] ?? 0
  }

  #memoryOf(content: Buffer): number {
    return this.#contents.findIndex(({ buffer }) => buffer === content.buffer)
  }
}

/** Computes what is offered on the board, until its thread is ended. */
export function serveDigests(memory: DigestMemory): never {
  const board = new Board(memory)
  board.announceHelper()
  for (;;) {
    const { rings } = board
    for (let job = 0; job < mostJobs; job++) if (board.claim(job)) board.work(job)
    board.awaitRing(rings)
  }
}

/** The side of the one who needs them. */
export class Digests {
  #board: Board | undefined
  /** Content whose digests are on the board, by the number of its job. */
  #expected: Buffer[] = []

  /** Counts on a helper from the moment that `serveDigests` runs with what this returns, where content lies in `contents`. Once. */
  share(contents: readonly SharedArrayBuffer[]): DigestMemory {
    const memory = { board: new SharedArrayBuffer(boardBytes), contents }
    this.#board = new Board(memory)
    for (let job = 0; job < mostJobs; job++) this.#board.finish(job)
    return memory
  }

  /** Digests of these will be asked for, most likely in this order; none of them changes until `clear`. */
  expect(contents: readonly Buffer[]): void {
    for (const content of contents.slice(0, mostJobs)) {
      if (this.#board?.canHelpWith(content) !== true) return
      this.#board.offer(this.#expected.push(content) - 1, content)
    }
  }

  /** As `chunkAddress`. */
  address(content: Buffer): Buffer {
    const job = this.#find(content)
    return this.#settle(job)?.address(job) ?? chunkAddress(content)
  }

  /** The plain checksum of a piece of content, by its number; undefined where none was expected. */
  checksum(content: Buffer, piece: number): number | undefined {
    const job = this.#find(content)
    return this.#settle(job)?.checksum(job, piece)
  }

  /** What was expected is not needed any more: it may change from now on. */
  clear(): void {
    for (let job = 0; job < this.#expected.length; job++) {
      if (this.#board?.claim(job) === true) this.#board.finish(job)
      else this.#await(job)
    }
    this.#expected = []
  }

  #find(content: Buffer): number {
    const { buffer, byteOffset, length } = content
    return this.#expected.findIndex((each) => each.byteOffset === byteOffset && each.length === length && each.buffer === buffer)
  }

  /** Sees to it that a job is done. Returns where its answers are; undefined when they are not to be had. */
  #settle(job: number): Board | undefined {
    if (job < 0) return undefined
    if (this.#board?.claim(job) === true) this.#board.work(job)
    this.#await(job)
    return this.#board
  }

  /** A helper that does not answer is not asked again: what it may write to the board later is not looked at. */
  #await(job: number): void {
    if (this.#board?.await(job) === false) this.#board = undefined
  }
}

/** Where a field of a job is. */
function at(job: number, field: number): number {
  return firstJobAt + job * jobWords + field
}
