/**
 * The session on `/dev/fuse`: reads a request, has it served, writes the reply, until the mount is gone.
 * Keeps: one request at a time, answered before the next is read; blocking calls only, so nothing else runs on this thread.
 * Leaves: what a request means to dispatcher.ts, opening and mounting to mount.ts.
 */
import { AssertionError } from 'node:assert'
import { readSync, writeSync } from 'node:fs'
import { messageOf, systemCode } from '../base/index.ts'
import { Dispatcher, ERROR_REPLY } from './dispatcher.ts'
import type { SessionOptions } from './dispatcher.ts'
import type { Filesystem } from './filesystem.ts'
import { forgetAttributes } from './notify.ts'

/** Codes of read(2) on the device that mean: try again. ENOENT: the request was interrupted before it was read. */
const readAgain: ReadonlySet<string | undefined> = new Set(['ENOENT', 'EINTR', 'EAGAIN'])

/** Serves one mount out of `fs`. The descriptor stays the caller's. */
export class FuseSession {
  readonly #fd: number
  readonly #options: SessionOptions
  readonly #dispatcher: Dispatcher
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
  }

  /** Where requests lie, content of WRITE among them. */
  get memory(): readonly SharedArrayBuffer[] {
    return [this.#dispatcher.request.memory]
  }

  /** Serves a request that a dead predecessor has read, and may have answered, from a copy of it; before `serve`. */
  serveCopy(request: Buffer): void {
    request.copy(this.#dispatcher.request.buffer)
    this.#serveOne(request.length, true)
  }

  /**
   * Serves until the mount is unmounted or its connection aborted (ENODEV), then returns. Blocks its thread meanwhile.
   * Throws what read(2) fails with otherwise, and an AssertionError of the Filesystem after that request's EIO.
   */
  serve(): void {
    while (!this.#isGone) {
      const length = this.#read()
      if (length > 0) this.#serveOne(length)
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

  /** Returns the length of the request read, or 0 for none. */
  #read(): number {
    const { buffer } = this.#dispatcher.request
    try {
      return readSync(this.#fd, buffer, 0, buffer.length, null)
    } catch (error) {
      const code = systemCode(error)
      if (readAgain.has(code)) return 0
      if (code !== 'ENODEV') throw error
      this.#isGone = true
      return 0
    }
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
