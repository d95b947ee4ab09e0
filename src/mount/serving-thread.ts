/**
 * The serving thread: opens the volume, answers the kernel until the mount is gone, closes the volume when told.
 * Keeps: the loop blocks its thread, so this one does nothing else, but for a turn of the event loop now and then; every change is made
 *   here; a successor first answers what its predecessor left unanswered.
 * Leaves: mounting, signals, checkpoints and the supervisor to the control thread (serving.ts).
 */
import { flushCompileCache } from 'node:module'
import { availableParallelism } from 'node:os'
import { parentPort, receiveMessageOnPort, type MessagePort } from 'node:worker_threads'
import { makeLogger, toPlainError, type Ino, type LogLevel, type Logger, type PlainError } from '../base/index.ts'
import { Volume, WriteGate } from '../engine/index.ts'
import { FuseSession, requestResend, type LateSeek, type Negotiated, type RequestObserver } from '../fuse/index.ts'
import { Failpoint } from './failpoint.ts'
import type { HelperMemory } from './helper-threads.ts'
import { LostRequests } from './lost-requests.ts'
import { SharedLostSync } from './lost-sync.ts'
import type { SharedFiles } from './open-files.ts'
import { PoisonGuard } from './poison.ts'
import type { AheadRange } from './read-ahead.ts'
import { RequestCopy, keepSeek, readRequestCopy, readSeeks, type LeftCopy } from './request-copy.ts'
import { RunFolder } from './run-folder.ts'
import { VolumeFilesystem } from './volume-filesystem.ts'

/** What it opens and serves. */
export interface ThreadOptions {
  readonly file: string
  readonly deviceFd: number
  /** Names the FUSE connection (Volume.open). */
  readonly connection: number
  readonly runFolder: string
  /** 1 for the process that mounts, more for each successor. */
  readonly generation: number
  /** Another process serves the volume still, until the order to serve. */
  readonly isStandingBy: boolean
  /** Whether the kernel is asked to send unanswered requests again; otherwise a copy of each is kept. */
  readonly useResend: boolean
  readonly shared: SharedFiles
  /** SharedLostSync's. */
  readonly lostSync: SharedArrayBuffer
  /** WriteGate's. */
  readonly gate: SharedArrayBuffer
  /** Brings the answer to `doubtful`, once: those of them that the kernel does not know. Nobody listens to it: it is looked for. */
  readonly forgotten: MessagePort
  readonly logLevel: LogLevel
}

/** Control thread → this one. */
export type ThreadOrder = { readonly order: 'open'; readonly options: ThreadOptions } | { readonly order: 'serve' | 'close' }

/** This one → control thread. */
export type ThreadReport =
  | { readonly type: 'loaded' }
  | { readonly type: 'opened'; readonly root: number }
  /** Inodes without a name that the kernel may have forgotten; answered by ThreadOptions.forgotten. */
  | { readonly type: 'doubtful'; readonly inos: readonly number[] }
  | { readonly type: 'negotiated'; readonly negotiated: Negotiated }
  /** The mount is gone. */
  | { readonly type: 'ended' }
  | { readonly type: 'late-seek'; readonly seek: LateSeek }
  /** Will be read soon. */
  | { readonly type: 'prefetch'; readonly range: AheadRange }
  /** Helpers are worth their memory: they are to compute digests and to read requests there. */
  | { readonly type: 'helpers'; readonly memory: HelperMemory }
  | { readonly type: 'closed' }
  | { readonly type: 'failed'; readonly error: PlainError }

const port = parentPort
if (port === null) throw new Error('serving-thread.ts is started by direct-server.ts, not by hand')
const report = (message: ThreadReport): void => {
  port.postMessage(message)
}

/** What serves the volume, with what predecessors have left. */
interface Parts {
  readonly filesystem: VolumeFilesystem
  readonly guard: PoisonGuard
  readonly copy: RequestCopy | undefined
  /** What a predecessor had in hand when it died. */
  readonly left: LeftCopy | undefined
}

/** The open volume, and what serves it. */
class Service {
  readonly #options: ThreadOptions
  readonly #volume: Volume
  readonly #folder: RunFolder
  #parts: Parts | undefined
  #session: FuseSession | undefined
  /** Until something was read. */
  #lost: LostRequests | undefined
  /** Which of the doubtful the kernel does not know is still to come. */
  #isAsking = false
  #served = Promise.resolve()
  readonly #failpoint: Failpoint | undefined
  readonly #logger: Logger

  constructor(options: ThreadOptions) {
    const { file, connection, generation, isStandingBy, logLevel } = options
    this.#options = options
    this.#folder = new RunFolder(options.runFolder)
    this.#failpoint = Failpoint.find(process.env['LITEVOL_FAILPOINT'], generation)
    const failpoint = this.#failpoint
    this.#logger = makeLogger('litevol-fuse', logLevel)
    const openOptions = {
      fuseConnection: connection,
      lostSync: new SharedLostSync(this.#folder, options.lostSync),
      gate: new WriteGate(options.gate),
      ...(failpoint && { beforeCommit: () => failpoint.reach('working') }),
    }
    this.#volume = isStandingBy ? Volume.standBy(file, openOptions) : Volume.open(file, openOptions)
    if (!isStandingBy) this.#parts = this.#prepare()
  }

  get root(): number {
    return this.#volume.root
  }

  /** Until the mount is gone. */
  async serve(): Promise<void> {
    this.#served = this.#begin().serve()
    await this.#served
    report({ type: 'ended' })
  }

  #begin(): FuseSession {
    const { deviceFd, generation, isStandingBy, useResend, runFolder } = this.#options
    if (isStandingBy) this.#volume.resume()
    this.#parts ??= this.#prepare()
    const { filesystem, guard, copy, left } = this.#parts
    const isSuccessor = generation > 1
    const observer = this.#observer(copy)
    const session = new FuseSession(deviceFd, filesystem, {
      logger: this.#logger,
      guard,
      contentAhead: this.#volume.digests,
      ...(observer && { observer }),
      onInit: (negotiated) => {
        report({ type: 'negotiated', negotiated })
      },
      onLateSeek: (seek) => {
        if (!useResend) keepSeek(runFolder, seek)
        report({ type: 'late-seek', seek })
      },
    })
    this.#session = session
    this.#reportDoubtful(filesystem.doubtful())
    if (isSuccessor && useResend) requestResend(deviceFd)
    if (left !== undefined) {
      this.#lost?.refuseAhead()
      for (const seek of readSeeks(runFolder)) report({ type: 'late-seek', seek })
      if (left.request !== undefined) session.serveCopy(left.request)
    }
    return session
  }

  /** When the mount is gone. */
  async close(): Promise<void> {
    await this.#served
    this.#parts?.filesystem.close()
    this.#parts?.guard.close()
    this.#parts?.copy?.close()
    this.#volume.close()
    report({ type: 'closed' })
  }

  /** When it is our turn: what predecessors left is complete only then. */
  #prepare(): Parts {
    const { deviceFd, generation, shared, useResend } = this.#options
    const isSuccessor = generation > 1
    const { handles, recalls, suspect, request } = this.#folder
    const filesystem = new VolumeFilesystem(this.#volume, {
      shared,
      handlesFile: handles,
      recallsFile: recalls,
      isSuccessor,
      takeForgotten: () => this.#takeForgotten(),
      prefetch: (range) => {
        report({ type: 'prefetch', range })
      },
      onManyLargeWrites: () => {
        this.#askForHelp()
      },
      onFault: (err, ino) => {
        this.#logger.warn({ err, ino }, 'a removed inode keeps its space for now')
      },
    })
    const guard = new PoisonGuard(suspect)
    if (useResend) return { filesystem, guard, copy: undefined, left: undefined }
    const left = readRequestCopy(request)
    const copy = new RequestCopy(request, left.marks)
    if (!isSuccessor) return { filesystem, guard, copy, left: undefined }
    this.#lost = new LostRequests(deviceFd, left.marks, this.#logger)
    return { filesystem, guard, copy, left }
  }

  #observer(copy: RequestCopy | undefined): RequestObserver | undefined {
    const failpoint = this.#failpoint
    if (copy === undefined && failpoint === undefined) return undefined
    return {
      read: (request, length, isCopy) => {
        failpoint?.begin(request.readUInt32LE(4))
        if (!isCopy) this.#keep(request, length, copy)
        failpoint?.reach('received')
      },
      served: () => failpoint?.reach('committed'),
      answered: () => {
        failpoint?.reach('answered')
        copy?.drop()
      },
    }
  }

  /** What a dead process has read ahead is lost to a kernel that cannot send it again. On a single CPU help would only be in the way. */
  #askForHelp(): void {
    const session = this.#session
    if (session === undefined || availableParallelism() < 2) return
    const requests = this.#options.useResend ? session.readAhead() : undefined
    report({ type: 'helpers', memory: { digests: this.#volume.digests.share(session.memory), requests } })
  }

  #reportDoubtful(inos: readonly number[]): void {
    this.#isAsking = inos.length > 0
    if (this.#isAsking) report({ type: 'doubtful', inos })
  }

  #takeForgotten(): readonly Ino[] {
    if (!this.#isAsking) return []
    const received = receiveMessageOnPort(this.#options.forgotten) as { readonly message: readonly Ino[] } | undefined
    this.#isAsking = received === undefined
    return received?.message ?? []
  }

  #keep(request: Buffer, length: number, copy: RequestCopy | undefined): void {
    if (this.#lost?.refuseBelow(request) === true) this.#lost = undefined
    copy?.keep(request, length)
  }
}

let service: Service | undefined

async function obey(message: ThreadOrder): Promise<void> {
  switch (message.order) {
    case 'open':
      service = new Service(message.options)
      report({ type: 'opened', root: service.root })
      return
    case 'serve':
      await service?.serve()
      return
    case 'close':
      await service?.close()
      port?.close()
      return
    default:
      message satisfies never
  }
}

port.on('message', (message: ThreadOrder) => {
  obey(message).catch((error: unknown) => {
    report({ type: 'failed', error: toPlainError(error) })
    port.close()
  })
})
report({ type: 'loaded' })
flushCompileCache() // the loop leaves no other moment
