/**
 * What answers the kernel for one mounted volume, as the control thread sees it: the part of a FUSE process that differs between drivers.
 * Keeps: a server has the volume open from `open` to `close`. Leaves: ownership, checkpoints, snapshots and unmounting to serving.ts.
 */
import type { Ino, Logger } from '../base/index.ts'
import type { Maintenance, WriteGate } from '../engine/index.ts'
import type { Negotiated } from '../fuse/index.ts'
import type { SharedLostSync } from './lost-sync.ts'
import type { StartOptions } from './messages.ts'
import type { SharedFiles } from './open-files.ts'

/** What a server works with. */
export interface ServerParts {
  readonly options: StartOptions
  /** 1 for the process that mounts, more for each successor. */
  readonly generation: number
  /** Another process serves the volume still, until `takeOver`. */
  readonly isStandingBy: boolean
  readonly shared: SharedFiles
  /** Shared with `maintenance`. */
  readonly lostSync: SharedLostSync
  /** The same. */
  readonly gate: WriteGate
  /** The control thread's own view of the volume. */
  readonly maintenance: Maintenance
  readonly logger: Logger
}

export interface VolumeServer {
  /** Resolves when everything is loaded. */
  readonly loaded: Promise<undefined>
  /** Opens the volume. Once, before anything else. */
  open(parts: ServerParts): Promise<void>
  /** The inode of the volume's root. */
  readonly root: Ino
  readonly isMounted: boolean
  /** As `isMounted`, of this moment, where the driver can ask the kernel: it may have let go of the mount and not told us yet. */
  readonly hasMount: boolean
  /** Resolves when the mount is gone, whoever unmounted it; rejects when serving failed. */
  readonly ended: Promise<undefined>
  /** Mounts and serves; returns once the kernel's INIT is answered. Throws ENOTCONN when it is unmounted before. */
  mount(): Promise<Negotiated>
  /** Serves what a predecessor has mounted, beginning with what it left unanswered. Throws EOPNOTSUPP where the driver cannot. */
  takeOver(): void
  /** Resolves when everything answered is committed. */
  settle(): Promise<void>
  /** Closes the volume, after the mount is gone. Rejects when that or serving failed. */
  close(): Promise<void>
}
