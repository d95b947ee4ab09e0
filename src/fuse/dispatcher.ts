/**
 * From the bytes of a request to the bytes of its reply: decode, call, encode. The one place where errors become errnos.
 * Keeps: whatever the bytes are, nothing is thrown but a broken invariant of ours; `unique` returns bit for bit.
 * Leaves: reading and writing the device to session.ts.
 */
import { AssertionError } from 'node:assert'
import { ErrnoError, errorTable } from '../base/index.ts'
import type { Logger, Nodeid } from '../base/index.ts'
import type { InitFlag } from './constants.ts'
import type { Filesystem } from './filesystem.ts'
import type { LateSeek } from './late-seek.ts'
import { MAX_WRITE, negotiate } from './negotiate.ts'
import type { InitAnswer, InitOffer, Negotiated } from './negotiate.ts'
import { findOperation } from './operation-table.ts'
import type { Operation } from './operation-table.ts'
import { prefaulted, type Bytes } from './prefaulted.ts'
import { LATER, PAYLOAD_AT } from './replies.ts'
import { fillCall, makeCall } from './request.ts'
import type { Call } from './request.ts'
import { traceOf, uniqueOf } from './trace.ts'
import type { Trace } from './trace.ts'
import { UNIQUE_AT, inHeader } from './wire.ts'

/** Who is told how far a request has got, while nothing else goes on. */
export interface RequestObserver {
  /** It was read, or with `isCopy` a predecessor had read it: the first `length` bytes of a buffer that is reused. */
  read(request: Buffer, length: number, isCopy: boolean): void
  /** It was served, and is not answered. */
  served(): void
  answered(): void
}

/** The options of a session. */
export interface SessionOptions {
  /** Where faults go, and the trace at level trace. Default: nowhere. */
  readonly logger?: Logger
  /** What is not asked of the kernel although it offers it; default nothing. Who serves a disk wants every write at once: no WRITEBACK_CACHE. */
  readonly declined?: readonly InitFlag[]
  /** Called once, when the kernel's INIT was understood and just before it is answered. */
  readonly onInit?: (negotiated: Negotiated) => void
  /** Takes an LSEEK that is to be answered by `answerLateSeek`, on another thread. Without it every LSEEK is answered at once. */
  readonly onLateSeek?: (seek: LateSeek) => void
  /** Told how far each request has got. */
  readonly observer?: RequestObserver
  /** Asked before a request that the kernel sends again is served: false has it answered with EIO. Told when it was served. */
  readonly guard?: { enter(request: number): boolean; leave(): void }
  /** Told of content before it is written, where requests are read ahead. Default: nobody is. */
  readonly contentAhead?: ContentAhead
  /** Requests after which the event loop turns once; default 8,192. */
  readonly requestsPerTurn?: number
}

/** Who can use content before the WRITE that brings it is served. */
export interface ContentAhead {
  /** `data` is to be written at `offset` of some file, and stays as it is until `forget`. Most likely: the WRITE may fail. */
  expect(offset: number, data: Buffer): void
  /** Other bytes may be there from now on. */
  forget(data: Buffer): void
}

/** What the session adds. */
export interface DispatcherOptions extends SessionOptions {
  /** Called before a request is answered that has changed attributes which the kernel will not ask for by itself. */
  readonly onStaleAttributes?: (nodeid: Nodeid) => void
}

/** The read buffer must hold a WRITE with its header; more room keeps the kernel's largest other requests. */
export const REQUEST_SIZE = MAX_WRITE + (1 << 16)
/** The reply buffer must hold a READ; a page over it. */
const REPLY_SIZE = MAX_WRITE + 4096

/** Serves requests out of its own read buffer, or another of at least that size, into its own reply buffer. */
export class Dispatcher {
  /** Where a request is to be put, or has been. */
  request: Bytes = prefaulted(REQUEST_SIZE)
  /** Where its reply stands after `dispatch`. */
  readonly reply: Bytes = prefaulted(REPLY_SIZE)
  readonly #options: SessionOptions
  readonly #call: Call
  readonly #trace: Trace | undefined
  #hasCaughtUp = false

  constructor(fs: Filesystem, options: DispatcherOptions) {
    this.#options = options
    const { onLateSeek } = options
    this.#call = makeCall({
      fs,
      initialise: (offer) => this.#initialise(offer),
      postpone: onLateSeek && ((seek) => onLateSeek({ unique: this.request.view.getBigUint64(UNIQUE_AT, true), ...seek })),
      forgetAttributes: (nodeid) => options.onStaleAttributes?.(nodeid),
      reply: this.reply,
    })
    this.#trace = traceOf(options.logger)
  }

  /**
   * Serves the request that stands in the first `length` bytes of `request`; with `isCopy` it is one that a predecessor has read,
   * although the kernel did not mark it as sent again. Returns the length of the reply in `reply`,
   * or 0 when the kernel expects none. Never throws, but for an AssertionError of the Filesystem: that is thrown on
   * after `reply` was filled with EIO (`ERROR_REPLY` bytes), for the session to send it and end.
   */
  dispatch(length: number, isCopy = false): number {
    if (length < inHeader.size) {
      this.#options.logger?.error({ length }, 'request: shorter than its header')
      return 0
    }
    const operation = findOperation(this.request.view.getUint32(4, true))
    this.#copyUnique()
    if (operation === undefined) return this.#refuse(errorTable.ENOSYS.errno)
    const request = this.#begin(operation, isCopy)
    return request === undefined ? this.#answer(operation, length) : this.#answerAgain(operation, length, request)
  }

  /** Tells the filesystem which request comes; returns its number when it may have been served before. */
  #begin(operation: Operation, isCopy: boolean): number | undefined {
    const { view } = this.request
    const high = view.getUint32(UNIQUE_AT + 4, true)
    const number = (high & 0x7fff_ffff) * 2 ** 32 + view.getUint32(UNIQUE_AT, true)
    const request = number <= Number.MAX_SAFE_INTEGER ? number : 0 // no kernel counts so far: such a request is not told from others
    const isResent = isCopy || high >= 0x8000_0000
    if (!isResent && operation.isAnswered) this.#catchUp()
    this.#call.fs.begin(request)
    this.#call.committed = isResent && request > 0 ? this.#call.fs.recall(request) : undefined
    return isResent ? request : undefined
  }

  /**
   * A request comes for the first time: the kernel puts what it sends again before all that waits (fuse_resend of fs/fuse/dev.c), and
   * each was answered before the next was served. Only what has no answer is in queues of its own: FORGET, INTERRUPT.
   */
  #catchUp(): void {
    if (this.#hasCaughtUp) return
    this.#hasCaughtUp = true
    this.#call.fs.catchUp()
  }

  /** Serves what the kernel sends again, unless serving it is what ends processes. */
  #answerAgain(operation: Operation, length: number, request: number): number {
    const { guard, logger } = this.#options
    if (guard?.enter(request) === false) {
      logger?.error(
        { operation: operation.name, request },
        `${operation.name}: answered with EIO, since serving it has ended several processes`,
      )
      return operation.isAnswered ? this.#refuse(errorTable.EIO.errno) : 0
    }
    const replyLength = this.#answer(operation, length)
    guard?.leave()
    return replyLength
  }

  /** Turns the reply in hand into an error reply; returns its length. */
  #refuse(errno: number): number {
    return this.#header(PAYLOAD_AT, -errno)
  }

  /** Replaces a reply that the kernel would not take by EIO; returns its length. */
  replaceReply(): number {
    return this.#refuse(errorTable.EIO.errno)
  }

  #answer(operation: Operation, length: number): number {
    try {
      const payload = this.#serve(operation, length)
      return operation.isAnswered && payload !== LATER ? this.#header(PAYLOAD_AT + payload, 0) : 0
    } catch (error) {
      return this.#fail(operation, error)
    }
  }

  #serve(operation: Operation, length: number): number {
    const { view } = this.request
    fillCall(this.#call, this.request, length, operation.structSize, operation.names)
    if (this.#trace === undefined) return operation.serve(this.#call, view, inHeader.size, undefined)
    const trace = this.#trace
    const unique = uniqueOf(view)
    trace.rx(unique, operation.name, this.#call)
    const onResult = (text: string): void => trace.tx(unique, operation.isAnswered ? `OK ${text}`.trimEnd() : 'none')
    return operation.serve(this.#call, view, inHeader.size, onResult)
  }

  #fail(operation: Operation, error: unknown): number {
    const known = error instanceof ErrnoError ? error : undefined
    const code = known?.code ?? 'EIO'
    this.#trace?.tx(uniqueOf(this.request.view), code)
    // An ErrnoError is an answer; only EIO says that something is wrong with the volume, and is worth a line.
    if (code === 'EIO') this.#logFault(operation, error)
    const replyLength = this.#refuse(errorTable[code].errno)
    if (error instanceof AssertionError) throw error
    return operation.isAnswered ? replyLength : 0
  }

  #logFault(operation: Operation, error: unknown): void {
    const fault = { operation: operation.name, unique: uniqueOf(this.request.view), nodeid: this.#call.nodeid, err: error }
    this.#options.logger?.error(fault, `${operation.name}: answered with EIO`)
  }

  #initialise(offer: InitOffer): InitAnswer {
    const { answer, negotiated } = negotiate(offer, this.#options.declined)
    if (negotiated !== undefined) this.#options.onInit?.(negotiated)
    return answer
  }

  /** Copies `unique` from request to reply without looking at it: bit 63 marks a resent request and must return. */
  #copyUnique(): void {
    const from = this.request.view
    const to = this.reply.view
    to.setUint32(UNIQUE_AT, from.getUint32(UNIQUE_AT, true), true)
    to.setUint32(UNIQUE_AT + 4, from.getUint32(UNIQUE_AT + 4, true), true)
  }

  /** Writes `len` and `error` of the reply header; returns `length`. */
  #header(length: number, error: number): number {
    this.reply.view.setUint32(0, length, true)
    this.reply.view.setInt32(4, error, true)
    return length
  }
}

/** The length of an error reply: a header alone. */
export const ERROR_REPLY = PAYLOAD_AT
