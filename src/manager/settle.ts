/**
 * Settling a volume file on a thread of its own: recovering a long WAL takes seconds, in which the manager must go on answering.
 * Keeps: a file without a -wal beside it costs no thread. Leaves: what settling is to engine/files.ts.
 */
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { fromPlainError, type PlainError } from '../base/index.ts'

/** What the thread is started with: the file, and how long it waits for an owner that is finishing. */
export interface SettleOptions {
  readonly file: string
  readonly ownerTimeoutMs: number
}

/** What the thread says. */
export interface SettleOutcome {
  readonly error: PlainError | undefined
}

const threadUrl = new URL(`settle-thread${extname(import.meta.url)}`, import.meta.url)

/** Makes the file whole, as `settleVolumeFile` of the engine does. Throws what that throws. */
export async function settle(file: string, ownerTimeoutMs: number): Promise<void> {
  if (!existsSync(`${file}-wal`)) return
  const options: SettleOptions = { file, ownerTimeoutMs }
  const thread = new Worker(threadUrl, { workerData: options })
  const [{ error }] = (await once(thread, 'message')) as [SettleOutcome] // rejects with the thread's own error
  if (error !== undefined) throw fromPlainError(error)
}
