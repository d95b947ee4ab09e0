/**
 * When the WAL is copied into the volume file: off the request path, on the control thread.
 * Keeps: the WAL of a busy volume starts anew past `walRestartBytes` (plus what is written while it is copied), that of an idle one
 *   gives its disk space back; a snapshot is never disturbed, and when it makes the WAL too long that is said.
 * Leaves: how a checkpoint works to engine/maintenance.ts.
 */
import type { Logger } from '../base/index.ts'
import { pageSize, walRestartBytes, type Maintenance } from '../engine/index.ts'

/** How often it looks, in ms. */
const intervalMs = 100

/** Uncopied bytes past which a busy WAL is copied: large enough that pages changed often are copied once. */
const copyBytes = 24 << 20

/** Ticks without a change after which the WAL gives its disk space back: a pause between two files is shorter. */
const idleTicks = 20

/** How often `onPressure` is told at most, in ms. */
const pressureEveryMs = 1000

/** How often a checkpoint that goes on failing is logged, in ms. */
const complainEveryMs = 60_000

/** What it runs with. */
export interface CheckpointingOptions {
  readonly maintenance: Maintenance
  readonly logger: Logger
  /** WAL bytes that held snapshots may cost. */
  readonly snapshotWalLimit: number
  /** They cost more than half of that; told again as long as they do. */
  readonly onPressure: (walBytes: number) => void
}

/** Starts it; returns how to stop it. */
export function startCheckpointing(options: CheckpointingOptions): () => void {
  const tick = makeTick(options)
  let complainedAt = 0
  const timer = setInterval(() => {
    try {
      tick()
    } catch (error) {
      if (Date.now() - complainedAt < complainEveryMs) return
      complainedAt = Date.now()
      options.logger.error({ err: error }, 'checkpoint failed; it is tried again')
    }
  }, intervalMs)
  return () => {
    clearInterval(timer)
  }
}

function makeTick({ maintenance, snapshotWalLimit, onPressure }: CheckpointingOptions): () => void {
  let lastFrames = 0
  let quietTicks = 0
  let toldAt = 0
  return () => {
    const { framesCheckpointed, framesRemaining } = maintenance.walFrames()
    const frames = framesCheckpointed + framesRemaining
    quietTicks = frames === lastFrames ? quietTicks + 1 : 0
    lastFrames = frames
    const walBytes = frames * pageSize
    if (maintenance.snapshots > 0) {
      if (walBytes <= snapshotWalLimit / 2 || Date.now() - toldAt < pressureEveryMs) return
      toldAt = Date.now()
      onPressure(walBytes)
      return
    }
    if (framesRemaining > 0 && (quietTicks > 0 || framesRemaining * pageSize > copyBytes)) maintenance.checkpoint()
    if (walBytes > walRestartBytes) maintenance.restartWal()
    if (quietTicks >= idleTicks && maintenance.walBytes() > 0) maintenance.truncateWal()
  }
}
