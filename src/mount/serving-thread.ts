/**
 * The serving thread: opens the volume, answers the kernel until the mount is gone, closes the volume when told.
 * Keeps: the loop blocks its thread, so this one does nothing else; every change is made here.
 * Leaves: mounting, signals, checkpoints and the supervisor to the control thread (serving.ts).
 */
import { parentPort, workerData } from 'node:worker_threads'
import { makeLogger, toPlainError, type LogLevel, type PlainError } from '../base/index.ts'
import { Volume } from '../engine/index.ts'
import { FuseSession, type LateSeek, type Negotiated } from '../fuse/index.ts'
import type { SharedFiles } from './open-files.ts'
import { VolumeFilesystem } from './volume-filesystem.ts'

/** What the control thread starts this one with. */
export interface ThreadOptions {
  readonly file: string
  readonly deviceFd: number
  readonly shared: SharedFiles
  readonly logLevel: LogLevel
}

/** Control thread → this one: start serving; close the volume and end. */
export type ThreadOrder = 'serve' | 'close'

/** This one → control thread. */
export type ThreadReport =
  | { readonly type: 'opened'; readonly root: number }
  | { readonly type: 'negotiated'; readonly negotiated: Negotiated }
  /** The mount is gone. */
  | { readonly type: 'ended' }
  | { readonly type: 'late-seek'; readonly seek: LateSeek }
  | { readonly type: 'closed' }
  | { readonly type: 'failed'; readonly error: PlainError }

const port = parentPort
if (port === null) throw new Error('serving-thread.ts is started by serving.ts, not by hand')
const { file, deviceFd, shared, logLevel } = workerData as ThreadOptions
const report = (message: ThreadReport): void => {
  port.postMessage(message)
}

/** Runs a step; what it throws is reported, and the thread ends. */
function step(work: () => void): void {
  try {
    work()
  } catch (error) {
    report({ type: 'failed', error: toPlainError(error) })
    port?.close()
  }
}

step(() => {
  const volume = Volume.open(file)
  volume.collectOrphans()
  const logger = makeLogger('litevol-fuse', logLevel)
  const filesystem = new VolumeFilesystem(volume, shared, (err, ino) => {
    logger.warn({ err, ino }, 'a removed inode keeps its space for now')
  })
  const orders: Record<ThreadOrder, () => void> = {
    serve() {
      const onInit = (negotiated: Negotiated): void => {
        report({ type: 'negotiated', negotiated })
      }
      const onLateSeek = (seek: LateSeek): void => {
        report({ type: 'late-seek', seek })
      }
      new FuseSession(deviceFd, filesystem, { logger, onInit, onLateSeek }).serve()
      report({ type: 'ended' })
    },
    close() {
      volume.close()
      report({ type: 'closed' })
      port.close()
    },
  }
  port.on('message', (order: ThreadOrder) => {
    step(orders[order])
  })
  report({ type: 'opened', root: volume.root })
})
