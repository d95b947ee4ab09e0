/**
 * What the manager is told at its start, as far as more than one of its modules needs it.
 * Keeps: every time is in the unit its name says. Leaves: variables and flags to config.ts.
 */
import type { DriverName, LogLevel } from '../base/index.ts'

export interface ManagerOptions {
  /** Folder of the store and the volume files, absolute. */
  readonly dataRoot: string
  /** Folder of the run folders of mounts, absolute, best on tmpfs: what a mount's processes share while it lasts. */
  readonly runRoot: string
  /** Folder of the mountpoints, absolute. */
  readonly mountRoot: string
  /** The same folder as the host sees it; only told, never opened. */
  readonly hostMountRoot: string
  /** Whether the host is another mount namespace, which mounts must reach: preflight proves it. */
  readonly isHostElsewhere: boolean
  /** The driver of a mount that names none. */
  readonly driver: DriverName
  /** Whether a loaded successor of each FUSE process waits: the pause after a death is shorter, the memory more. */
  readonly hasStandby: boolean
  /** Whether CPUs are kept awake while a volume is busy (mount/low-latency.ts). */
  readonly isLowLatency: boolean
  /** Level of the FUSE processes' logs. */
  readonly logLevel: LogLevel
  /** How long a snapshot outlives its last stream; 0: not at all. */
  readonly exportLeaseMs: number
  /** How long a stream may go without anybody reading on; it is broken off then. */
  readonly exportStallMs: number
  /** Bytes of WAL past which snapshots are given up. */
  readonly exportWalLimit: number
  /** How long a FUSE process may take until it is ready; it is killed then. */
  readonly mountTimeoutMs: number
  /** How long an unmount may take; a forced one kills the FUSE process then, another fails with ETIMEDOUT. */
  readonly unmountTimeoutMs: number
  /** How long a stop waits before it kills the FUSE processes left. */
  readonly stopTimeoutMs: number
}

/** How long to wait for another owner of a volume file that is finishing, in ms. */
export const ownerTimeoutMs = 5000

/** How long a short question to a FUSE process may take, in ms. */
export const callTimeoutMs = 10_000

/** How long a call may take that first writes back what applications wrote, in ms. */
export const flushTimeoutMs = 120_000
