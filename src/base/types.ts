/**
 * The small types that several layers share: branded identities, timestamps, the caller of a request.
 * Keeps: an inode number is never taken for a nodeid or a handle.
 * Leaves: everything with behaviour to the layers.
 */

declare const brand: unique symbol
type Branded<T, Name extends string> = T & { readonly [brand]: Name }

/** An inode number of a volume file: an integer from 2 to 2^53 - 1, never reused. */
export type Ino = Branded<number, 'ino'>

/** What the kernel calls an inode: 1 for the root of the mounted volume, else the inode number. */
export type Nodeid = Branded<number, 'nodeid'>

/** A file handle of the FUSE protocol: our own number, returned at open, given back at release. */
export type Fh = Branded<number, 'fh'>

/** A point in time: whole seconds since the epoch (negative before 1970) and 0 to 999,999,999 nanoseconds, as in stat(2). */
export interface Timestamp {
  readonly sec: number
  readonly nsec: number
}

/** Who asked, as `fuse_in_header` tells it. */
export interface Caller {
  readonly uid: number
  readonly gid: number
  readonly pid: number
}

/** The ways to serve a mount: our own FUSE protocol on /dev/fuse, or libfuse 2 by the package fuse-native. */
export const driverNames = ['direct', 'fuse-native'] as const

export type DriverName = (typeof driverNames)[number]

/** Whether CPUs stay awake while a volume is busy; `auto`: where it is worth it. */
export const lowLatencyModes = ['auto', 'on', 'off'] as const

export type LowLatencyMode = (typeof lowLatencyModes)[number]
