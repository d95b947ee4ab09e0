/**
 * When the WAL is copied into the volume file: off the request path, on the control thread.
 * Keeps: the WAL of a busy volume stays near `restartBytes`, of an idle one it is empty; a snapshot is never disturbed,
 *   and when it makes the WAL too long that is said.
 * Leaves: how a checkpoint works to engine/maintenance.ts.
 */
import type { Logger } from '../base/index.ts'
import { pageSize, type Maintenance } from '../engine/index.ts'

/** How often it looks, in ms. */
const intervalMs = 100

/** Uncopied bytes past which a busy WAL is copied: large enough that pages changed often are copied once. */
const copyBytes = 24 << 20

/** WAL bytes past which writers wait for the last step, so that the WAL starts anew: overwriting it costs half of extending it. */
const restartBytes = 64 << 20

/** How often `onLimit` is told at most, in ms. */
const limitEveryMs = 1000

/** What it runs with. */
export interface CheckpointingOptions {
  readonly maintenance: Maintenance
  readonly logger: Logger
  /** WAL bytes past which held snapshots are too much. */
  readonly snapshotWalLimit: number
  readonly onLimit: (walBytes: number) => void
}

/** Starts it; returns how to stop it. */
export function startCheckpointing(options: CheckpointingOptions): () => void {
  const tick = makeTick(options)
  const timer = setInterval(() => {
    try {
      tick()
    } catch (error) {
      options.logger.error({ err: error }, 'checkpoint failed; it is tried again')
    }
  }, intervalMs)
  return () => {
    clearInterval(timer)
  }
}

function makeTick({ maintenance, snapshotWalLimit, onLimit }: CheckpointingOptions): () => void {
  let lastRemaining = 0
  let toldAt = 0
  return () => {
    const { framesCheckpointed, framesRemaining } = maintenance.walFrames()
    const isQuiet = framesRemaining > 0 && framesRemaining === lastRemaining
    lastRemaining = framesRemaining
    const walBytes = (framesCheckpointed + framesRemaining) * pageSize
    if (maintenance.snapshots > 0) {
      if (walBytes <= snapshotWalLimit || Date.now() - toldAt < limitEveryMs) return
      toldAt = Date.now()
      onLimit(walBytes)
      return
    }
    if (isQuiet || framesRemaining * pageSize > copyBytes) maintenance.checkpoint()
    if (walBytes > restartBytes) maintenance.restartWal()
  }
}
