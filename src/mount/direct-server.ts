/**
 * The driver direct: our own FUSE protocol, served by a thread that blocks in read(2) on /dev/fuse.
 * Keeps: the device is the keeper's, so it outlives this process. Leaves: what the thread does to serving-thread.ts.
 */
import { release } from 'node:os'
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads'
import { ErrnoError, fromPlainError, type Ino, type Nodeid } from '../base/index.ts'
import { answerLateSeek, findForgotten, hasMount, mountFuse, type LateSeek, type Negotiated } from '../fuse/index.ts'
import { deviceFd } from './descriptors.ts'
import type { AheadRange } from './read-ahead.ts'
import { startHelpers } from './helper-threads.ts'
import { dropSeek } from './request-copy.ts'
import type { ThreadOptions, ThreadOrder, ThreadReport } from './serving-thread.ts'
import type { ServerParts, VolumeServer } from './volume-server.ts'

/**
 * Limit of the serving thread's young generation, in MiB (three semi-spaces of 2). Making and removing 20,000 files three times
 * left the process at 133 MiB with it and at 207 without, at the same speed.
 */
const maxYoungGenerationSizeMb = 6

/** The extension of this very file: `.ts` in the repository, `.js` in the package. */
const threadUrl = new URL(import.meta.url.replace(/direct-server(\.[jt]s)$/, 'serving-thread$1'))

/** Linux 6.9 sends unanswered requests again. `LITEVOL_RESEND=off` stands for an older kernel, in tests. */
function useResend(): boolean {
  const [major = 0, minor = 0] = release().split('.').map(Number)
  return process.env['LITEVOL_RESEND'] !== 'off' && (major > 6 || (major === 6 && minor >= 9))
}

export class DirectServer implements VolumeServer {
  readonly #thread: Worker
  readonly #opened = Promise.withResolvers<Ino>()
  readonly #negotiated = Promise.withResolvers<Negotiated>()
  readonly #ended = Promise.withResolvers<undefined>()
  readonly #closed = Promise.withResolvers<undefined>()
  readonly #loaded = Promise.withResolvers<undefined>()
  /** To the serving thread: which of the doubtful the kernel does not know. */
  readonly #forgotten = new MessageChannel()
  #parts: ServerParts | undefined
  #deviceFd = -1
  #root: Ino | undefined
  #isMounted = false

  /** Starts the serving thread, which loads everything and waits. */
  constructor() {
    for (const { promise } of [this.#loaded, this.#opened, this.#ended, this.#closed]) promise.catch(() => undefined) // looked at by whoever waits for it
    this.#thread = new Worker(threadUrl, { resourceLimits: { maxYoungGenerationSizeMb } })
    this.#listen()
  }

  async open(parts: ServerParts): Promise<void> {
    this.#parts = parts
    this.#deviceFd = deviceFd()
    const { options, generation, isStandingBy, shared, lostSync, gate } = parts
    const { file, runFolder, connection, logLevel } = options
    const threadOptions: ThreadOptions = {
      file,
      deviceFd: this.#deviceFd,
      connection,
      runFolder,
      generation,
      isStandingBy,
      useResend: useResend(),
      shared,
      lostSync: lostSync.memory,
      gate: gate.memory,
      forgotten: this.#forgotten.port2,
      logLevel,
    }
    this.#order({ order: 'open', options: threadOptions }, [threadOptions.forgotten])
    this.#root = await this.#opened.promise
  }

  get loaded(): Promise<undefined> {
    return this.#loaded.promise
  }

  get root(): Ino {
    if (this.#root === undefined) throw new ErrnoError('EIO', 'volume: is not open')
    return this.#root
  }

  get isMounted(): boolean {
    return this.#isMounted
  }

  get hasMount(): boolean {
    return this.#isMounted && hasMount(this.#deviceFd)
  }

  get ended(): Promise<undefined> {
    return this.#ended.promise
  }

  async mount(): Promise<Negotiated> {
    const { source, mountpoint, readOnly, mountOptions } = this.#open().options
    mountFuse(this.#deviceFd, { source, mountpoint, readOnly, extraOptions: mountOptions })
    this.takeOver()
    const agreed = await Promise.race([this.#negotiated.promise, this.ended])
    if (agreed === undefined) throw new ErrnoError('ENOTCONN', `mount ${mountpoint}: unmounted before it was ready`)
    return agreed
  }

  takeOver(): void {
    this.#isMounted = true
    this.#order({ order: 'serve' })
  }

  /** A request is committed before it is answered. */
  async settle(): Promise<void> {}

  async close(): Promise<void> {
    this.#order({ order: 'close' })
    await this.#closed.promise
  }

  #open(): ServerParts {
    if (this.#parts === undefined) throw new ErrnoError('EIO', 'volume: is not open')
    return this.#parts
  }

  #order(order: ThreadOrder, given: readonly MessagePort[] = []): void {
    this.#thread.postMessage(order, given)
  }

  #listen(): void {
    const handlers: { [R in ThreadReport as R['type']]: (report: R) => void } = {
      loaded: () => {
        this.#loaded.resolve(undefined)
      },
      opened: ({ root }) => {
        this.#opened.resolve(root as Ino)
      },
      doubtful: ({ inos }) => {
        void this.#askAfter(inos)
      },
      negotiated: ({ negotiated }) => {
        this.#negotiated.resolve(negotiated)
      },
      'late-seek': ({ seek }) => {
        void this.#answerLateSeek(seek)
      },
      prefetch: ({ range }) => {
        this.#prefetch(range)
      },
      helpers: ({ memory }) => {
        startHelpers(memory, this.#open().logger, (error) => {
          this.#fail(error)
        })
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

  async #askAfter(doubtful: readonly number[]): Promise<void> {
    this.#forgotten.port1.postMessage(await findForgotten(this.#deviceFd, doubtful as readonly Nodeid[]))
  }

  /** Answers for the serving thread, which serves the pages that the answer needs. */
  async #answerLateSeek(seek: LateSeek): Promise<void> {
    const { maintenance, logger, options } = this.#open()
    try {
      await answerLateSeek(this.#deviceFd, seek, () => maintenance.seek(seek.nodeid as number as Ino, seek.offset, seek.target))
    } catch (error) {
      // The mount is gone, and with it who asked; or the kernel did not take it, and nothing else can be said to it.
      logger.warn({ err: error }, 'lseek: could not be answered')
    }
    dropSeek(options.runFolder, seek.unique)
  }

  /** Nobody waits for it, and what fails here fails for who reads. */
  #prefetch({ ino, offset, length }: AheadRange): void {
    try {
      this.#parts?.maintenance.prefetch(ino, offset, length)
    } catch (error) {
      this.#parts?.logger.debug({ err: error }, 'prefetch failed')
    }
  }

  #fail(error: unknown): void {
    for (const waiting of [this.#loaded, this.#opened, this.#ended, this.#closed]) waiting.reject(error)
  }
}
