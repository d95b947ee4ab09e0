/**
 * Starts the helpers of the serving thread, which are worth their memory once a volume gets large writes: the digest thread, and the
 *   reading thread where there may be one.
 * Keeps: they keep nobody from ending the process. Without them, or when the digest thread fails, the serving thread does their work; the
 *   reading thread may hold a request when it fails, which only a successor is sent again, so that the process has to end.
 * Leaves: what they do to engine/digest-thread.ts and fuse/reading-thread.ts, when they are started to volume-filesystem.ts.
 */
import { Worker } from 'node:worker_threads'
import type { Logger } from '../base/index.ts'
import type { DigestMemory } from '../engine/index.ts'
import { hasReader, type RequestsAheadMemory } from '../fuse/index.ts'

/** They allocate next to nothing. */
const resourceLimits = { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 32 }

/** The memory that the serving thread shares with its helpers. */
export interface HelperMemory {
  readonly digests: DigestMemory
  /** Undefined: it reads all requests by itself. */
  readonly requests: RequestsAheadMemory | undefined
}

/** Starts them. `onFailure`: the process must end. */
export function startHelpers({ digests, requests }: HelperMemory, logger: Logger, onFailure: (error: unknown) => void): void {
  start('engine/digest-thread', digests, (err) => {
    logger.warn({ err }, 'the digest thread has failed')
  })
  if (requests === undefined) return
  start('fuse/reading-thread', requests, (err) => {
    logger.warn({ err }, 'the reading thread has failed')
    if (hasReader(requests)) onFailure(err)
  })
}

function start(module: string, workerData: unknown, onError: (error: unknown) => void): void {
  // `.ts` in the repository, `.js` in the package, as this file.
  const url = new URL(import.meta.url.replace(/mount\/helper-threads(\.[jt]s)$/, `${module}$1`))
  try {
    const thread = new Worker(url, { workerData, resourceLimits })
    thread.unref()
    thread.once('error', onError)
  } catch (error) {
    onError(error) // no more threads are allowed: pids of cgroups(7)
  }
}
