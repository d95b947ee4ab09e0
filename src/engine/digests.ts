/**
 * Digests of content that is written: the SHA-256 that names a chunk, the CRC-32 of each of its pieces. They are a quarter of the work of a
 *   large write, so a second thread computes ahead those of content that lies in memory shared with it. (Reading gains nothing by it: 28 %
 *   less throughput, measured. A CRC takes less time than telling another thread.)
 * Keeps: an answer is that of the very bytes that were asked about: the other thread was done with them before they may have changed, or
 *   what it finds is not looked at; nobody waits for it, and without it everything is computed here. Who expects content says when it may
 *   change.
 * Leaves: starting that thread (digest-thread.ts) to who has the volume open; what a digest is for to codec.ts.
 *
 * The board, in shared memory: three words (a bell that rings for new jobs, whether a helper is there, whether it sleeps), then for each
 *   job its fields and its answers. A job is free until one of the two threads claims it, and its place is the helper's until it is done,
 *   whether or not somebody still wants to know. To wake who does not sleep takes a lock of V8's for nothing.
 */
import { setImmediate as turnOfEventLoop } from 'node:timers/promises'
import { addressLength, checksum, chunkAddress } from './checksums.ts'
import { blockSize, pieceSize, piecesPerChunk } from './schema.ts'

/** As many as two requests of 1 MiB have whole blocks, and then some. */
const mostJobs = 32

/** Rings between two turns of the event loop of the one who helps: V8 puts off until then what each collection leaves, some 100 bytes. */
const ringsPerTurn = 1024

/** Counts up with every change of what lies where: the digest thread may be loaded from newer files than the rest of its process. */
const layout = 1

/** Places on the board, in words of 32 bits. */
const bellAt = 0
const helperAt = 1
const asleepAt = 2
const firstJobAt = 16

/** Places in a job. */
const stateAt = 0
const memoryAt = 1
const offsetAt = 2
const lengthAt = 3
const checksumsAt = 4
const addressAt = checksumsAt + piecesPerChunk
const jobWords = addressAt + addressLength / 4

const jobNumbers = Array.from({ length: mostJobs }, (_, job) => job)

const boardBytes = 4 * (firstJobAt + mostJobs * jobWords)

/** States of a job; one that is done is nobody's. */
const FREE = 0
const CLAIMED = 1
const DONE = 2

/** The memory that both threads see. */
export interface DigestMemory {
  /** `layout` of the module that has made it. */
  readonly layout: number
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
    Atomics.store(this.#words, asleepAt, 1)
    Atomics.wait(this.#words, bellAt, rings)
    Atomics.store(this.#words, asleepAt, 0)
  }

  /** Tells the helper that there are new jobs. */
  ring(): void {
    Atomics.add(this.#words, bellAt, 1)
    if (Atomics.load(this.#words, asleepAt) === 1) Atomics.notify(this.#words, bellAt)
  }

  /** Makes the job in that place anybody's; `ring` says so. The one that had its place is done. */
  offer(job: number, content: Buffer): void {
    this.#words[at(job, memoryAt)] = this.#memoryOf(content)
    this.#words[at(job, offsetAt)] = content.byteOffset
    this.#words[at(job, lengthAt)] = content.length
    Atomics.store(this.#words, at(job, stateAt), FREE)
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
  }

  isDone(job: number): boolean {
    return Atomics.load(this.#words, at(job, stateAt)) === DONE
  }

  address(job: number): Buffer {
    const start = 4 * at(job, addressAt)
    return Buffer.from(this.#bytes.subarray(start, start + addressLength))
  }

  checksums(job: number): number[] {
    return Array.from(this.#words.subarray(at(job, checksumsAt), at(job, addressAt)))
  }

  #word(job: number, field: number): number {
    return this.#words[at(job, field)] ?? 0
  }

  #memoryOf(content: Buffer): number {
    return this.#contents.findIndex(({ buffer }) => buffer === content.buffer)
  }
}

/** Computes what is offered on the board, until its thread is ended; returns at once where it knows the board in another layout. */
export async function serveDigests(memory: DigestMemory): Promise<void> {
  if (memory.layout !== layout) return
  const board = new Board(memory)
  board.announceHelper()
  for (;;) {
    for (let served = 0; served < ringsPerTurn; served++) {
      const { rings } = board
      for (let job = 0; job < mostJobs; job++) if (board.claim(job)) board.work(job)
      board.awaitRing(rings)
    }
    await turnOfEventLoop()
  }
}

/** Content whose digests are on the board. */
interface Expected {
  readonly content: Buffer
  readonly job: number
}

/** The side of the one who needs them. */
export class Digests {
  #board: Board | undefined
  #expected: Expected[] = []

  /** Counts on a helper from the moment that `serveDigests` runs with what this returns, where content lies in `contents`. Once. */
  share(contents: readonly SharedArrayBuffer[]): DigestMemory {
    const memory = { layout, board: new SharedArrayBuffer(boardBytes), contents }
    this.#board = new Board(memory)
    for (let job = 0; job < mostJobs; job++) this.#board.finish(job)
    return memory
  }

  /**
   * Digests of the whole blocks of `data`, which is to be written at `offset` of a file, will be asked for, most likely in their order.
   * None of it changes until `forget`.
   */
  expect(offset: number, data: Buffer): void {
    const board = this.#board
    if (board === undefined) return
    const known = this.#expected.length
    for (const content of wholeBlocks(offset, data)) if (this.#find(content) === undefined) this.#offer(board, content)
    if (this.#expected.length > known) board.ring()
  }

  #offer(board: Board, content: Buffer): void {
    if (!board.canHelpWith(content)) return
    const job = jobNumbers.find((each) => board.isDone(each) && !this.#expected.some(({ job: taken }) => taken === each))
    if (job === undefined) return
    board.offer(job, content)
    this.#expected.push({ content, job })
  }

  /** As `chunkAddress`. */
  address(content: Buffer): Buffer {
    return this.#answered(content, (board, job) => board.address(job)) ?? chunkAddress(content)
  }

  /** The plain checksums of the pieces of content; undefined where they are not known yet. */
  checksums(content: Buffer): number[] | undefined {
    return this.#answered(content, (board, job) => board.checksums(job))
  }

  /** What was expected of `data` is not needed any more: it may change from now on. */
  forget(data: Buffer): void {
    const isPart = ({ content }: Expected): boolean => content.buffer === data.buffer && isWithin(content, data)
    for (const each of this.#expected) if (isPart(each) && this.#board?.claim(each.job) === true) this.#board.finish(each.job)
    this.#expected = this.#expected.filter((each) => !isPart(each))
  }

  /** What the board answers about content; undefined where it was not expected, and where the helper is not done with it. */
  #answered<T>(content: Buffer, read: (board: Board, job: number) => T): T | undefined {
    const found = this.#find(content)
    if (this.#board === undefined || found === undefined) return undefined
    if (this.#board.claim(found.job)) this.#board.work(found.job)
    return this.#board.isDone(found.job) ? read(this.#board, found.job) : undefined
  }

  #find({ buffer, byteOffset, length }: Buffer): Expected | undefined {
    return this.#expected.find(({ content }) => content.byteOffset === byteOffset && content.length === length && content.buffer === buffer)
  }
}

/** The blocks of a file that lie whole in `data`, which is to be written at `offset`. */
function wholeBlocks(offset: number, data: Buffer): Buffer[] {
  const first = (blockSize - (offset % blockSize)) % blockSize
  const count = Math.max(0, Math.floor((data.length - first) / blockSize))
  return Array.from({ length: count }, (_, block) => data.subarray(first + block * blockSize, first + (block + 1) * blockSize))
}

function isWithin(content: Buffer, data: Buffer): boolean {
  return content.byteOffset >= data.byteOffset && content.byteOffset + content.length <= data.byteOffset + data.length
}

/** Where a field of a job is. */
function at(job: number, field: number): number {
  return firstJobAt + job * jobWords + field
}
