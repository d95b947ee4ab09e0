/**
 * What the supervisor and a FUSE process say to each other: the start options (one JSON argument of the process), and one line
 * of JSON for each message over the unix socket in its run folder: calls, replies, and events that the process sends by itself.
 * Keeps: the unions are closed and carry a protocol number; nothing secret is in the start options. Who connects is greeted by
 *   `ready`; the first process of a mount writes `ready` or `failed` to its standard output too, for its starter.
 * Leaves: carrying them to manager/mount-process.ts on one side and mount/control-socket.ts on the other.
 */
import type { DriverName, LogLevel, PlainError } from '../base/index.ts'

/** Raised with every change of this file that an older process would misread. */
export const protocol = 3

/** The first argument of src/mount/main.ts, as JSON. */
export interface StartOptions {
  readonly protocol: typeof protocol
  /** The volume file, absolute. */
  readonly file: string
  /** What findmnt shows as source: the file as the user named it. */
  readonly source: string
  /** An existing directory, absolute. */
  readonly mountpoint: string
  readonly readOnly: boolean
  /** Who answers the kernel. */
  readonly driver: DriverName
  /** More words of mount(8) for the mount, `noatime`, `nodev`: those of the virtual filesystem, without commas. */
  readonly mountOptions: readonly string[]
  /** An empty folder of its own, which only root may enter, absolute, best on tmpfs: what the processes of this mount share. */
  readonly runFolder: string
  /** A random number that names the FUSE connection. */
  readonly connection: number
  /** Unmount by force when descriptor 5 ends: the starter holds its other end. */
  readonly hasLeash: boolean
  /** Keep CPUs awake while the mount is busy (low-latency.ts). */
  readonly isLowLatency: boolean
  readonly logLevel: LogLevel
  /** Begin a snapshot with id 0 before the first change: exports of the file as it lies are still running. */
  readonly holdSnapshot: boolean
  /** WAL bytes that held snapshots may cost: past half of them `wal-pressure` events tell of it. */
  readonly snapshotWalLimit: number
  /** How long to wait for another owner of the file that is finishing, in ms. */
  readonly ownerTimeoutMs: number
}

/** Names in the run folder that both sides know. */
export const socketName = 'socket'
export const keeperName = 'keeper'

/** The device that keeps CPUs awake (low-latency.ts); opening it takes root. */
export const latencyDevice = '/dev/cpu_dma_latency'

/** Promise 5's pair, and the pair that names the bytes of an export. */
export interface StateReport {
  /** Advances with every committed change that a user can see, and with nothing else. */
  readonly change: number
  /** Time of the last such change: seconds since the epoch, microseconds. */
  readonly mtime: { readonly sec: number; readonly nsec: number }
  /** Names the committed bytes: equal iff a checkpointed file would be byte-for-byte equal. */
  readonly bytesTag: string
  /** Bytes of the volume when checkpointed: pages times page size. */
  readonly sizeBytes: number
}

/** A held read transaction: the file's bytes at one commit, for as long as it is held. */
export interface SnapshotReport {
  readonly snapshot: number
  readonly pageSize: number
  readonly pageCount: number
  /** Frames of the -wal file that belong to the snapshot: a page's newest frame among them wins over the main file. 0: main file only. */
  readonly walFrames: number
  readonly bytesTag: string
}

/** Each call: what goes, what comes. */
export interface Calls {
  /** Counters; answered at once, also while the serving thread is busy. */
  status: {
    request: Record<string, never>
    reply: { handles: number; writers: number; requests: number; walBytes: number; snapshots: number }
  }
  state: { request: Record<string, never>; reply: StateReport }
  /** Flushes what applications wrote, then holds a snapshot. */
  'snapshot-acquire': { request: Record<string, never>; reply: SnapshotReport }
  'snapshot-release': { request: { snapshot: number }; reply: Record<string, never> }
  checkpoint: { request: Record<string, never>; reply: { framesCheckpointed: number; framesRemaining: number } }
  /** Answered when the mount is gone; the process then closes the file and exits 0. EBUSY with open handles unless forced. */
  unmount: { request: { force: boolean }; reply: Record<string, never> }
}

export type CallName = keyof Calls

/** Supervisor → process. */
export type CallMessage = { [N in CallName]: { readonly id: number; readonly call: N; readonly request: Calls[N]['request'] } }[CallName]

/** Process → supervisor, one for each call. */
export type ReplyMessage =
  | { readonly type: 'reply'; readonly id: number; readonly reply: Calls[CallName]['reply'] }
  | { readonly type: 'error'; readonly id: number; readonly error: PlainError }

/** Process → supervisor, unasked. */
export type EventMessage =
  /** The kernel's INIT was answered: the mountpoint serves. `flags` names what was negotiated. */
  | {
      readonly type: 'ready'
      readonly protocol: typeof protocol
      readonly pid: number
      /** The process that replaces this one when it dies. */
      readonly keeper: number
      /** 1 for the process that mounted; each successor has one more, though numbers may be left out. */
      readonly generation: number
      /** How often the process of this mount was replaced so far. */
      readonly restarts: number
      readonly driver: DriverName
      readonly kernel: string
      readonly flags: readonly string[]
      readonly maxWrite: number
      readonly dirtyLimit: string
    }
  /** It could not be mounted; the process exits with 1. */
  | { readonly type: 'failed'; readonly error: PlainError }
  /** Unmounted, but not by a call: held snapshots must be released, then the process closes the file and exits 0. */
  | { readonly type: 'unmounted' }
  /** Held snapshots keep the WAL above its limit: release them. */
  | { readonly type: 'wal-pressure'; readonly walBytes: number }

export type ProcessMessage = ReplyMessage | EventMessage
