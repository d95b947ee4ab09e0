/**
 * The numbers of the FUSE protocol: opcodes, flags and notify codes, by the names of `linux/fuse.h` without their prefix.
 * Keeps: each equals the header's value (test/fuse/wire.test.ts), or stands in `newerConstants` with the kernel that brought it.
 * Leaves: which flags are asked for to negotiate.ts, which operations are served to operation-table.ts.
 */

import type { Nodeid } from '../base/index.ts'

/** The protocol we speak: FUSE_KERNEL_VERSION and FUSE_KERNEL_MINOR_VERSION of Linux 6.18. */
export const PROTOCOL_MAJOR = 7
export const PROTOCOL_MINOR = 45

/** The oldest minor whose structs are those of wire.ts: 7.33 (Linux 5.13) gave `fuse_setxattr_in` its flags. */
export const OLDEST_MINOR = 33

/** The nodeid of the mounted root: FUSE_ROOT_ID. */
export const ROOT_ID = 1 as Nodeid

/** Bit 63 of `unique`, set on a request that NOTIFY_RESEND delivered again: FUSE_UNIQUE_RESEND. */
export const UNIQUE_RESEND_BIT = 63

/** enum fuse_opcode, without CUSE. */
export const opcodes = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SETUPMAPPING: 48,
  REMOVEMAPPING: 49,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const

/** INIT flags by bit number: bits 0 to 31 travel in `flags`, 32 to 63 in `flags2` (only with INIT_EXT). */
export const initBits = {
  ASYNC_READ: 0,
  POSIX_LOCKS: 1,
  FILE_OPS: 2,
  ATOMIC_O_TRUNC: 3,
  EXPORT_SUPPORT: 4,
  BIG_WRITES: 5,
  DONT_MASK: 6,
  SPLICE_WRITE: 7,
  SPLICE_MOVE: 8,
  SPLICE_READ: 9,
  FLOCK_LOCKS: 10,
  HAS_IOCTL_DIR: 11,
  AUTO_INVAL_DATA: 12,
  DO_READDIRPLUS: 13,
  READDIRPLUS_AUTO: 14,
  ASYNC_DIO: 15,
  WRITEBACK_CACHE: 16,
  NO_OPEN_SUPPORT: 17,
  PARALLEL_DIROPS: 18,
  HANDLE_KILLPRIV: 19,
  POSIX_ACL: 20,
  ABORT_ERROR: 21,
  MAX_PAGES: 22,
  CACHE_SYMLINKS: 23,
  NO_OPENDIR_SUPPORT: 24,
  EXPLICIT_INVAL_DATA: 25,
  MAP_ALIGNMENT: 26,
  SUBMOUNTS: 27,
  HANDLE_KILLPRIV_V2: 28,
  SETXATTR_EXT: 29,
  INIT_EXT: 30,
  INIT_RESERVED: 31,
  SECURITY_CTX: 32,
  HAS_INODE_DAX: 33,
  CREATE_SUPP_GROUP: 34,
  HAS_EXPIRE_ONLY: 35,
  DIRECT_IO_ALLOW_MMAP: 36,
  PASSTHROUGH: 37,
  NO_EXPORT_SUPPORT: 38,
  HAS_RESEND: 39,
  ALLOW_IDMAP: 40,
  OVER_IO_URING: 41,
  REQUEST_TIMEOUT: 42,
} as const
export type InitFlag = keyof typeof initBits

/** Bits of `valid` in SetattrIn. */
export const FATTR = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  LOCKOWNER: 1 << 9,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const

/** Bits of `openFlags` in OpenOut. */
export const FOPEN = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  NONSEEKABLE: 1 << 2,
  CACHE_DIR: 1 << 3,
  STREAM: 1 << 4,
  NOFLUSH: 1 << 5,
  PARALLEL_DIRECT_WRITES: 1 << 6,
  PASSTHROUGH: 1 << 7,
} as const

/** Bits of `writeFlags` in WriteIn. */
export const WRITE = { CACHE: 1 << 0, LOCKOWNER: 1 << 1, KILL_SUIDGID: 1 << 2 } as const

/** Bit of `setxattrFlags` in SetxattrIn. */
export const SETXATTR_ACL_KILL_SGID = 1 << 0

/** Flags of fallocate(2), linux/falloc.h; the kernel's FUSE lets no others pass. */
export const FALLOC = { KEEP_SIZE: 0x01, PUNCH_HOLE: 0x02, ZERO_RANGE: 0x10 } as const

/** `whence` of lseek(2), linux/fs.h: the two that reach a FUSE server. */
export const SEEK = { DATA: 3, HOLE: 4 } as const

/** Bit of `openFlags` in OpenIn and CreateIn. */
export const OPEN_KILL_SUIDGID = 1 << 0

/** enum fuse_notify_code: what the server may send unasked, as the `error` of a header with `unique` 0. */
export const notifyCodes = {
  POLL: 1,
  INVAL_INODE: 2,
  INVAL_ENTRY: 3,
  STORE: 4,
  RETRIEVE: 5,
  DELETE: 6,
  RESEND: 7,
  INC_EPOCH: 8,
  PRUNE: 9,
} as const

/** Constants that the header of Linux 6.1 (7.38, Debian 12) lacks, by their C names, with the Linux version that brought each. */
export const newerConstants: Readonly<Record<string, string>> = {
  FUSE_STATX: '6.6',
  FUSE_COPY_FILE_RANGE_64: '6.18',
  FUSE_CREATE_SUPP_GROUP: '6.3',
  FUSE_DIRECT_IO_ALLOW_MMAP: '6.6',
  FUSE_PASSTHROUGH: '6.9',
  FUSE_NO_EXPORT_SUPPORT: '6.9',
  FUSE_HAS_RESEND: '6.9',
  FUSE_ALLOW_IDMAP: '6.12',
  FUSE_OVER_IO_URING: '6.14',
  FUSE_REQUEST_TIMEOUT: '6.15',
  FOPEN_PASSTHROUGH: '6.9',
  FUSE_NOTIFY_RESEND: '6.9',
  FUSE_NOTIFY_INC_EPOCH: '6.16',
  FUSE_NOTIFY_PRUNE: '6.18',
}
