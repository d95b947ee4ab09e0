/**
 * Starts the digest thread, which is worth its memory once a volume gets large writes.
 * Keeps: it keeps nobody from ending the process; without it, or when it fails, the serving thread does its work.
 * Leaves: what it does to engine/digest-thread.ts, when it is started to volume-filesystem.ts.
 */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { Logger } from '../base/index.ts'
import type { DigestMemory } from '../engine/index.ts'

/** It allocates next to nothing. */
const resourceLimits = { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 32 }

/** `.ts` in the repository, `.js` in the package, as this file. */
const threadUrl = new URL(import.meta.url.replace(/mount\/digest-helper(\.[jt]s)$/, 'engine/digest-thread$1'))

/** Starts one for that board; where there is a single CPU, none. */
export function startDigestHelper(memory: DigestMemory, logger: Logger): void {
  if (availableParallelism() < 2) return
  const thread = new Worker(threadUrl, { workerData: memory, resourceLimits })
  thread.unref()
  thread.once('error', (error) => {
    logger.warn({ err: error }, 'the digest thread has failed')
  })
}
