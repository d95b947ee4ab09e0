/**
 * The driver direct: our own FUSE protocol, served by a thread that blocks in read(2) on /dev/fuse.
 * Keeps: the device stays open until the volume is closed. Leaves: what the thread does to serving-thread.ts.
 */
import { closeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { ErrnoError, fromPlainError, type Ino } from '../base/index.ts'
import { answerLateSeek, mountFuse, openFuseDevice, type LateSeek, type Negotiated } from '../fuse/index.ts'
import type { ThreadOptions, ThreadOrder, ThreadReport } from './serving-thread.ts'
import type { ServerParts, VolumeServer } from './volume-server.ts'

/**
 * Limit of the serving thread's young generation, in MiB (three semi-spaces of 2). Making and removing 20,000 files three times
 * left the process at 133 MiB with it and at 207 without, at the same speed.
 */
const maxYoungGenerationSizeMb = 6

/** The extension of this very file: `.ts` in the repository, `.js` in the package. */
const threadUrl = new URL(import.meta.url.replace(/direct-server(\.[jt]s)$/, 'serving-thread$1'))

export class DirectServer implements VolumeServer {
  readonly #parts: ServerParts
  readonly #deviceFd: number
  readonly #thread: Worker
  readonly #opened = Promise.withResolvers<Ino>()
  readonly #negotiated = Promise.withResolvers<Negotiated>()
  readonly #ended = Promise.withResolvers<undefined>()
  readonly #closed = Promise.withResolvers<undefined>()
  #root: Ino | undefined
  #isMounted = false

  private constructor(parts: ServerParts) {
    this.#parts = parts
    this.#deviceFd = openFuseDevice()
    for (const { promise } of [this.#opened, this.#ended, this.#closed]) promise.catch(() => undefined) // looked at by whoever waits for it
    const { file, logLevel } = parts.options
    const workerData: ThreadOptions = { file, deviceFd: this.#deviceFd, shared: parts.shared, logLevel }
    this.#thread = new Worker(threadUrl, { workerData, resourceLimits: { maxYoungGenerationSizeMb } })
    this.#listen()
  }

  /** Starts the serving thread; returns when it has the volume open. */
  static async open(parts: ServerParts): Promise<DirectServer> {
    const server = new DirectServer(parts)
    try {
      server.#root = await server.#opened.promise
      return server
    } catch (error) {
      closeSync(server.#deviceFd)
      throw error
    }
  }

  get root(): Ino {
    if (this.#root === undefined) throw new ErrnoError('EIO', 'volume: is not open')
    return this.#root
  }

  get isMounted(): boolean {
    return this.#isMounted
  }

  get ended(): Promise<undefined> {
    return this.#ended.promise
  }

  async mount(): Promise<Negotiated> {
    const { source, mountpoint, readOnly, mountOptions } = this.#parts.options
    mountFuse(this.#deviceFd, { source, mountpoint, readOnly, extraOptions: mountOptions })
    this.#isMounted = true
    this.#order('serve')
    const agreed = await Promise.race([this.#negotiated.promise, this.ended])
    if (agreed === undefined) throw new ErrnoError('ENOTCONN', `mount ${mountpoint}: unmounted before it was ready`)
    return agreed
  }

  /** A request is committed before it is answered. */
  async settle(): Promise<void> {}

  async close(): Promise<void> {
    this.#order('close')
    await this.#closed.promise
    closeSync(this.#deviceFd)
  }

  #order(order: ThreadOrder): void {
    this.#thread.postMessage(order)
  }

  #listen(): void {
    const handlers: { [R in ThreadReport as R['type']]: (report: R) => void } = {
      opened: ({ root }) => {
        this.#opened.resolve(root as Ino)
      },
      negotiated: ({ negotiated }) => {
        this.#negotiated.resolve(negotiated)
      },
      'late-seek': ({ seek }) => {
        void this.#answerLateSeek(seek)
      },
      ended: () => {
        this.#isMounted = false
        this.#ended.resolve(undefined)
      },
      closed: () => {
        this.#closed.resolve(undefined)
      },
      failed: ({ error }) => {
        this.#fail(fromPlainError(error))
      },
    }
    this.#thread.on('message', (report: ThreadReport) => {
      const handle = handlers[report.type] as (report: ThreadReport) => void
      handle(report)
    })
    this.#thread.once('error', (error) => {
      this.#fail(error)
    })
    this.#thread.once('exit', () => {
      this.#fail(new ErrnoError('EIO', 'the serving thread ended'))
    })
  }

  /** Answers for the serving thread, which serves the pages that the answer needs. */
  async #answerLateSeek(seek: LateSeek): Promise<void> {
    const { maintenance, logger } = this.#parts
    try {
      await answerLateSeek(this.#deviceFd, seek, () => maintenance.seek(seek.nodeid as number as Ino, seek.offset, seek.target))
    } catch (error) {
      // The mount is gone, and with it who asked; or the kernel did not take it, and nothing else can be said to it.
      logger.warn({ err: error }, 'lseek: could not be answered')
    }
  }

  #fail(error: unknown): void {
    for (const waiting of [this.#opened, this.#ended, this.#closed]) waiting.reject(error)
  }
}
