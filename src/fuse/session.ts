/**
 * The session on `/dev/fuse`: reads a request, has it served, writes the reply, until the mount is gone.
 * Keeps: one request at a time, answered before the next is served; blocking calls only, so nothing else runs on this thread, but for a
 *   turn of the event loop now and then. The next one is read meanwhile only among large writes, and only by who was told to.
 * Leaves: what a request means to dispatcher.ts, reading ahead to requests-ahead.ts, opening and mounting to mount.ts.
 */
import { AssertionError } from 'node:assert'
import { writeSync } from 'node:fs'
import { setImmediate as turnOfEventLoop } from 'node:timers/promises'
import { getSystemErrorName } from 'node:util'
import { ErrnoError, messageOf, systemCode } from '../base/index.ts'
import { Dispatcher, ERROR_REPLY, REQUEST_SIZE } from './dispatcher.ts'
import type { SessionOptions } from './dispatcher.ts'
import type { Filesystem } from './filesystem.ts'
import { forgetAttributes } from './notify.ts'
import type { Bytes } from './prefaulted.ts'
import { RequestsAhead, isLargeWrite, readRequest, type ReadRequest, type RequestsAheadMemory } from './requests-ahead.ts'
import { inHeader, writeIn } from './wire.ts'

/** After so many large writes in turn the next one is worth reading ahead. */
const burst = 4

/** Requests between two turns of the event loop, by default: at least a tenth of a second. */
const requestsPerTurn = 8192

/** Serves one mount out of `fs`. The descriptor stays the caller's. */
export class FuseSession {
  readonly #fd: number
  readonly #options: SessionOptions
  readonly #dispatcher: Dispatcher
  /** Where requests are read, unless somebody reads ahead. */
  readonly #own: Bytes
  #ahead: RequestsAhead | undefined
  /** Set while requests are read ahead: the next one comes from there. */
  #reader: RequestsAhead | undefined
  /** Served in turn. */
  #largeWrites = 0
  #isGone = false

  constructor(fd: number, fs: Filesystem, options: SessionOptions = {}) {
    this.#fd = fd
    this.#options = options
    this.#dispatcher = new Dispatcher(fs, {
      ...options,
      onStaleAttributes: (nodeid) => {
        forgetAttributes(fd, nodeid)
      },
    })
    this.#own = this.#dispatcher.request
  }

  /**
   * Counts on another thread, which is to run `readRequests` with what this returns: among large writes it reads the next request. Only
   * where the kernel sends what a dead process has read again (Linux 6.9). Once.
   */
  readAhead(): RequestsAheadMemory {
    this.#ahead = new RequestsAhead(this.#fd, REQUEST_SIZE)
    return this.#ahead.memory
  }

  /** Where requests lie, content of WRITE among them. Ask after `readAhead`. */
  get memory(): readonly SharedArrayBuffer[] {
    return [this.#own.memory, ...(this.#ahead?.memory.slots ?? [])]
  }

  /** Serves a request that a dead predecessor has read, and may have answered, from a copy of it; before `serve`. */
  serveCopy(request: Buffer): void {
    request.copy(this.#own.buffer)
    this.#serveOne(request.length, true)
  }

  /**
   * Serves until the mount is unmounted or its connection aborted (ENODEV). Blocks its thread, but for turns of the event loop: until then
   * V8 and Node keep what they put off, some 100 bytes for each collection of the young generation, and what is native of each object that
   * was collected. Rejects with EIO for what read(2) fails with otherwise, and with an AssertionError of the Filesystem after that
   * request's EIO.
   */
  async serve(): Promise<void> {
    while (!this.#isGone) {
      for (let count = this.#options.requestsPerTurn ?? requestsPerTurn; count > 0 && !this.#isGone; count--) {
        if (this.#reader === undefined) this.#serveNext()
        else this.#serveAhead(this.#reader)
      }
      await turnOfEventLoop()
    }
  }

  #serveNext(): void {
    const length = this.#checked(readRequest(this.#fd, this.#own.buffer))
    if (length === 0) return
    this.#largeWrites = isLargeWrite(this.#own.buffer, length) ? this.#largeWrites + 1 : 0
    this.#serveOne(length)
    if (this.#largeWrites < burst || this.#ahead?.hasReader !== true) return
    this.#ahead.begin()
    this.#reader = this.#ahead
  }

  /** Serves what the other thread has read; the first request that is no large WRITE is its last. */
  #serveAhead(reader: RequestsAhead): void {
    const { bytes, length } = reader.next()
    const isLast = !isLargeWrite(bytes.buffer, length)
    this.#expect(reader.following())
    this.#dispatcher.request = bytes
    if (this.#checked(length) > 0) this.#serveOne(length)
    this.#options.contentAhead?.forget(bytes.buffer)
    reader.release()
    if (!isLast) return
    this.#reader = undefined
    this.#dispatcher.request = this.#own
    this.#largeWrites = burst - 1 // it was most likely the kernel's SETATTR of the times, and they go on
  }

  /** Tells of the content that comes next. */
  #expect(following: ReadRequest | undefined): void {
    if (following === undefined || !isLargeWrite(following.bytes.buffer, following.length)) return
    const { buffer, view } = following.bytes
    const start = inHeader.size + writeIn.size
    try {
      const { offset, size } = writeIn.decode(view, inHeader.size)
      this.#options.contentAhead?.expect(offset, buffer.subarray(start, Math.min(start + size, following.length)))
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error // else it is one that cannot be served, which is said when it is
    }
  }

  #serveOne(length: number, isCopy = false): void {
    const { observer } = this.#options
    observer?.read(this.#dispatcher.request.buffer, length, isCopy)
    try {
      const replyLength = this.#dispatcher.dispatch(length, isCopy)
      observer?.served()
      if (replyLength > 0) this.#reply(replyLength)
      observer?.answered()
    } catch (error) {
      if (error instanceof AssertionError) {
        this.#reply(ERROR_REPLY)
        observer?.answered()
      }
      throw error
    }
  }

  /** The length of a request that was read; 0 for none, which ENODEV makes the last. Throws EIO for what read(2) fails with otherwise. */
  #checked(length: number): number {
    if (length >= 0) return length
    const code = getSystemErrorName(length)
    if (code !== 'ENODEV') throw new ErrnoError('EIO', `/dev/fuse: read failed with ${code}`)
    this.#isGone = true
    return 0
  }

  #reply(length: number): void {
    const code = this.#write(length)
    if (code === undefined || code === 'ENOENT') return // ENOENT: nobody waits for it any more
    if (code === 'ENODEV') {
      this.#isGone = true
      return
    }
    // The kernel did not take the reply (EINVAL: a length it does not expect), and who asked still waits.
    this.#options.logger?.error({ code, length }, 'reply: refused by the kernel, answered with EIO')
    this.#write(this.#dispatcher.replaceReply())
  }

  /** Writes the reply; returns the code of the failure, or undefined. */
  #write(length: number): string | undefined {
    try {
      writeSync(this.#fd, this.#dispatcher.reply.buffer, 0, length, null)
      return undefined
    } catch (error) {
      return systemCode(error) ?? messageOf(error)
    }
  }
}
