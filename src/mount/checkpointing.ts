/**
 * When the WAL is copied into the volume file: off the request path, on the control thread.
 * Keeps: the WAL of a busy volume starts anew past `walRestartBytes` (plus what is written while it is copied), among large writes, where
 *   disk and memory are plenty, past `burstWalBytes`; that of an idle one gives its disk space back, a short one after some time in which
 *   it may be used again; a snapshot is never disturbed, and when it makes the WAL too long that is said. What large writes will need of
 *   the volume file is read ahead of them, and the room of their WAL is asked for.
 * Leaves: how a checkpoint works to engine/maintenance.ts.
 */
import type { Logger } from '../base/index.ts'
import { keptWalBytes, walRestartBytes, type Maintenance } from '../engine/index.ts'
import { availableMemory } from '../fuse/index.ts'
import { WalAllocation } from './wal-allocation.ts'

/** How often it looks, in ms. */
const intervalMs = 100

/** Uncopied bytes past which a busy WAL is copied: large enough that pages changed often are copied once. */
const copyBytes = 24 << 20

/** A WAL that grew by so much in a tick is that of large writes, or of small ones in great number, as when a tree is removed: */
const burstBytes = 16 << 20

/**
 * until it is so long it is synced then, not copied. Copying takes a CPU and the disk from who writes, and its last step keeps him waiting:
 * 404 MiB/s with it, 452 without (docs/performance.md).
 */
const burstWalBytes = 512 << 20

/** How much longer it becomes while it is copied at last, about. */
const burstExcess = 5 / 4

/** It takes its memory and its disk space only where so many times as much is free: it becomes longer while it is copied at last. */
const burstMemoryShares = 4
const burstDiskShares = 16

/** Of free pages whose lists are brought into memory for large writes, more than they fill until the next look, and in how much time, in ms. */
const freelistBytes = 1 << 30
const freelistMs = 50

/** Ticks without a change after which the WAL gives its disk space back: a pause between two files is shorter. */
const idleTicks = 20

/** Such ticks after which it does so in any case. Until then it is kept for what is written next, which overwrites it, if it is worth it: */
const longIdleTicks = 200

/** not longer than `keptWalBytes`, on a disk that has at least so many more, and in memory (engine/wal-memory.ts). */
const plentyBytes = 1 << 30

/** How long this thread may read for that, in ms: what is asked of it meanwhile waits. A disk that is slower keeps no long WAL. */
const mostReadMs = 250

/** After a step that kept writers waiting in vain the next is not tried for a tick, then two, four …, and at most for so long, in ms. */
const mostPauseMs = 10_000

/** How often `onPressure` is told at most, in ms. */
const pressureEveryMs = 1000

/** How often a checkpoint that goes on failing is logged, in ms. */
const complainEveryMs = 60_000

/** What it runs with. */
export interface CheckpointingOptions {
  readonly maintenance: Maintenance
  readonly logger: Logger
  /** WAL bytes that held snapshots may cost; 0 where there are none. Half of it is the most for large writes, too. */
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
  // Whoever has made the limit low wants no long WAL; half of it is when completed downloads are let go.
  const longestBurst = snapshotWalLimit === 0 ? burstWalBytes : Math.min(burstWalBytes, snapshotWalLimit / 2)
  const walAllocation = new WalAllocation(maintenance.wal)
  let last = { frames: 0, remaining: 0 }
  let quietTicks = 0
  let toldAt = 0
  let [pauseMs, pausedUntil] = [0, 0]
  const note = (isDone: boolean): void => {
    pauseMs = isDone ? 0 : Math.min(Math.max(2 * pauseMs, intervalMs), mostPauseMs)
    pausedUntil = Date.now() + pauseMs
  }
  return () => {
    const { framesCheckpointed, framesRemaining } = maintenance.walFrames()
    const frames = framesCheckpointed + framesRemaining
    // One that was wholly copied starts anew with the next commit, and may have as many frames as before.
    const isQuiet = frames === last.frames && framesRemaining <= last.remaining
    quietTicks = isQuiet ? quietTicks + 1 : 0
    const grownBytes = (frames < last.frames ? frames : frames - last.frames) * maintenance.pageSize
    last = { frames, remaining: framesRemaining }
    const walBytes = frames * maintenance.pageSize
    const isBurst = grownBytes > burstBytes
    const mayGrow = isBurst && maintenance.snapshots === 0 && walBytes < longestBurst && hasRoomForBurst(maintenance)
    if (mayGrow) walAllocation.extend(longestBurst * burstExcess) // which goes on by itself
    if (isBurst) maintenance.bringFreelistIntoMemory(freelistBytes, freelistMs)
    if (maintenance.snapshots > 0) {
      if (walBytes <= snapshotWalLimit / 2 || Date.now() - toldAt < pressureEveryMs) return
      toldAt = Date.now()
      onPressure(walBytes)
      return
    }
    if (mayGrow) {
      maintenance.syncWal()
      return
    }
    if (framesRemaining > 0 && (quietTicks > 0 || framesRemaining * maintenance.pageSize > copyBytes)) {
      last = { frames, remaining: maintenance.checkpoint().framesRemaining }
    }
    if (Date.now() < pausedUntil) return
    if (walBytes > walRestartBytes && quietTicks === 0) note(maintenance.restartWal()) // one that is wholly copied starts anew by itself
    if (quietTicks % idleTicks !== 0 || quietTicks === 0 || maintenance.walBytes() === 0) return
    if (quietTicks === idleTicks && isWorthKeeping(maintenance)) maintenance.bringWalIntoMemory(mostReadMs)
    else if (quietTicks >= longIdleTicks || !isWorthKeeping(maintenance) || !maintenance.isWalInMemory(mostReadMs)) {
      maintenance.truncateWal()
      note(maintenance.walBytes() === 0)
    }
  }
}

function isWorthKeeping(maintenance: Maintenance): boolean {
  return maintenance.walBytes() <= keptWalBytes && maintenance.diskBytes() >= plentyBytes
}

function hasRoomForBurst(maintenance: Maintenance): boolean {
  return maintenance.diskBytes() > burstDiskShares * burstWalBytes && availableMemory() > burstMemoryShares * burstWalBytes
}
