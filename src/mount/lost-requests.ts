/**
 * The request that a predecessor had read from the device and not yet copied when it was killed (request-copy.ts): nobody knows
 * what it asked for, but who asked must not wait for ever. Only for kernels that cannot send requests again (before Linux 6.9).
 * Keeps: every request that was handed out is answered, at worst with EIO, and none that this process or a copy can serve is.
 * Leaves: the answer itself to fuse/lost-requests.ts.
 *
 * Which number it has: the kernel numbers requests when it queues them and hands them out in that order, so that it is more than the
 * last one copied and less than the next one read. Between them are the numbers of FORGETs, which are numbered when they are read,
 * and of requests that were taken back since who asked was killed.
 */
import type { Logger } from '../base/index.ts'
import { refuseRequests, requestStep } from '../fuse/index.ts'
import { isInterrupt, numberOf, type CopyMarks } from './request-copy.ts'

/** Numbers tried before anything is read, since nothing may come: so many consumers may have been killed while they waited. */
const triedAhead = 1024

export class LostRequests {
  readonly #device: number
  readonly #logger: Logger
  /** The first number that may be lost. */
  #first: number
  /** As in CopyMarks: a FORGET is numbered when it is read, so what is lost may be above it or below. */
  readonly #highest: number

  constructor(device: number, { lastRequest, highest }: CopyMarks, logger: Logger) {
    this.#device = device
    this.#logger = logger
    this.#first = lastRequest + requestStep
    this.#highest = highest
  }

  /** Answers what is lost, as far as can be told before anything is read. */
  refuseAhead(): void {
    this.#refuse(Math.max(this.#first, this.#highest) + triedAhead * requestStep)
  }

  /**
   * Answers what is lost below the first request that was read; false when that one says nothing. To be called before it is copied,
   * since a successor begins at what was copied last.
   */
  refuseBelow(request: Buffer): boolean {
    if (isInterrupt(request)) return false
    this.#refuse(numberOf(request) - requestStep)
    return true
  }

  #refuse(last: number): void {
    const count = refuseRequests(this.#device, this.#first, last)
    this.#first = Math.max(this.#first, last + requestStep)
    if (count > 0) this.#logger.error({ count }, 'a request was lost with the process that had read it: answered with EIO')
  }
}
