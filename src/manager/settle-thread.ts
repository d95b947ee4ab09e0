/**
 * The thread of settle.ts: settles one volume file and says how that went.
 * Keeps: it does nothing else, and ends. Leaves: everything about settling to engine/files.ts.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { toPlainError } from '../base/index.ts'
import { settleVolumeFile } from '../engine/index.ts'
import type { SettleOptions, SettleOutcome } from './settle.ts'

const { file, ownerTimeoutMs } = workerData as SettleOptions
let outcome: SettleOutcome = { error: undefined }
try {
  await settleVolumeFile(file, { ownerTimeoutMs })
} catch (error) {
  outcome = { error: toPlainError(error) }
}
parentPort?.postMessage(outcome)
