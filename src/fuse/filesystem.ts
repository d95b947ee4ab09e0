/**
 * The one interface between a FUSE driver and what it serves: `src/mount` implements it, every driver calls it.
 * Keeps: no wire format and no SQL in it; a method returns when its change is committed, or throws an ErrnoError and nothing changed.
 * Leaves: caching times and reply layouts to the driver, storage to the implementer.
 */
import type { Caller, Fh, Nodeid, Timestamp } from '../base/index.ts'

/** What stat(2) tells of an inode. `ino` is what applications see; `blocks` counts 512-byte units of stored bytes. */
export interface Attributes {
  readonly ino: number
  readonly size: number
  readonly blocks: number
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  readonly rdev: number
  readonly atime: Timestamp
  readonly mtime: Timestamp
  readonly ctime: Timestamp
}

/** An inode as a reply hands it to the kernel; each one handed out counts one nlookup. */
export interface Entry {
  readonly nodeid: Nodeid
  readonly attributes: Attributes
}

/** The changes of one SETATTR; an absent field stays. `'now'` stands for FATTR_ATIME_NOW and FATTR_MTIME_NOW. */
export interface AttributeChanges {
  mode?: number
  uid?: number
  gid?: number
  size?: number
  atime?: Timestamp | 'now'
  mtime?: Timestamp | 'now'
  ctime?: Timestamp
  /** Clear setuid and setgid as a write would (FATTR_KILL_SUIDGID). */
  killPrivileges?: boolean
}

/** Who makes a new inode. The umask counts unless the directory has a default access control list, acl(5); 0 where the kernel has applied it. */
export interface Maker extends Caller {
  readonly umask: number
}

/** How a SETXATTR came. */
export interface XattrOptions {
  /** XATTR_CREATE (1) and XATTR_REPLACE (2) of setxattr(2). */
  readonly flags: number
  /** Clear setgid: who sets an access control list is not of the file's group (FUSE_SETXATTR_ACL_KILL_SGID). */
  readonly clearSetgid: boolean
}

/** How a WRITE came. */
export interface WriteOrigin {
  /** From the kernel's write-back (FUSE_WRITE_CACHE): the kernel owns mtime and sends it by SETATTR. */
  readonly fromCache: boolean
  /** Clear setuid and setgid (FUSE_WRITE_KILL_SUIDGID). */
  readonly killPrivileges: boolean
}

/** statfs(2) of the volume: sizes in units of `blockSize` bytes. */
export interface StatFs {
  readonly blockSize: number
  readonly blocks: number
  readonly blocksFree: number
  readonly blocksAvailable: number
  readonly files: number
  readonly filesFree: number
  readonly nameMax: number
}

/** One directory entry of READDIR. `cookie` is where the next call goes on after this entry; `type` is `mode >> 12` (DT_*). */
export interface DirectoryEntry {
  readonly name: Buffer
  readonly cookie: number
  readonly ino: number
  readonly type: number
}

/**
 * The served filesystem. Names are bytes without NUL or slash, as the kernel sends them, and the callee's to keep; the
 * kernel passes names of more than 255 bytes on, so ENAMETOOLONG is the callee's to say. Permissions are the
 * kernel's matter (default_permissions). Every method may throw ErrnoError; anything else it throws is EIO.
 */
export interface Filesystem {
  /** The request of that number comes next: numbers are never used twice on one connection; 0 where the driver has none. */
  begin(request: number): void
  /**
   * For a request that the kernel sends again: when a predecessor has committed it, the inode that its answer names, or 0.
   * Undefined when it has not, and is to be served as any other.
   */
  recall(request: number): number | undefined
  /** From now on no request is sent again that a predecessor has read: all of those are answered. Once for each process, also the first. */
  catchUp(): void
  /** The child's entry, or undefined when there is none (the driver answers a negative entry). `.` and `..` are asked for too. */
  lookup(parent: Nodeid, name: Buffer): Entry | undefined
  /** The kernel drops `nlookup` references to the inode. */
  forget(nodeid: Nodeid, nlookup: number): void
  getattr(nodeid: Nodeid): Attributes
  setattr(caller: Caller, nodeid: Nodeid, changes: AttributeChanges): Attributes
  readlink(nodeid: Nodeid): Buffer
  mknod(maker: Maker, parent: Nodeid, name: Buffer, mode: number, rdev: number): Entry
  mkdir(maker: Maker, parent: Nodeid, name: Buffer, mode: number): Entry
  symlink(caller: Caller, parent: Nodeid, name: Buffer, target: Buffer): Entry
  link(nodeid: Nodeid, newParent: Nodeid, newName: Buffer): Entry
  unlink(parent: Nodeid, name: Buffer): void
  rmdir(parent: Nodeid, name: Buffer): void
  /** `flags` are those of renameat2(2). */
  rename(parent: Nodeid, name: Buffer, newParent: Nodeid, newName: Buffer, flags: number): void
  /** Creates a regular file and opens it. */
  create(maker: Maker, parent: Nodeid, name: Buffer, mode: number, flags: number): { entry: Entry; fh: Fh }
  /** Creates an unnamed regular file (O_TMPFILE) and opens it. */
  tmpfile(maker: Maker, parent: Nodeid, mode: number, flags: number): { entry: Entry; fh: Fh }
  /** Opens a regular file with the flags of open(2); O_TRUNC among them truncates; `killPrivileges` then clears setuid and setgid. */
  open(nodeid: Nodeid, flags: number, killPrivileges: boolean): Fh
  release(nodeid: Nodeid, fh: Fh): void
  /** Fills `into` from `offset`; returns how many bytes there were before the end of the file. */
  read(nodeid: Nodeid, offset: number, into: Buffer): number
  /** Writes all of `data` at `offset`. The buffer is the driver's and is reused after the call. */
  write(nodeid: Nodeid, offset: number, data: Buffer, origin: WriteOrigin): void
  /** `mode` holds flags of fallocate(2): KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE; the kernel lets no others pass. `killPrivileges`
   *  clears setuid and setgid. */
  fallocate(nodeid: Nodeid, offset: number, length: number, mode: number, killPrivileges: boolean): void
  /** Whether the file is open for writing: the kernel may hold pages of it that have not come yet. */
  hasWriters(nodeid: Nodeid): boolean
  /** Where from `offset` on data or a hole begins; the end of the file is a hole. ENXIO when there is none. */
  seek(nodeid: Nodeid, offset: number, target: 'data' | 'hole'): number
  /** Has a range of `target` be that of `source`; returns its length, which may be shorter than asked for.
   *  `killPrivileges` clears setuid and setgid of the target. */
  copyRange(source: Nodeid, sourceOffset: number, target: Nodeid, targetOffset: number, length: number, killPrivileges: boolean): number
  /** Everything acknowledged so far is on the disk when it returns. */
  fsync(nodeid: Nodeid): void
  /** Calls `visit` for each entry after `cookie` (0: from the start, `.` and `..` included) until it returns false. */
  readdir(nodeid: Nodeid, cookie: number, visit: (entry: DirectoryEntry) => boolean): void
  /** The entry of an inode that readdir named, for READDIRPLUS: counts one nlookup. */
  entry(ino: number): Entry
  statfs(): StatFs
  /** The value of an extended attribute; ENODATA when absent. */
  getxattr(nodeid: Nodeid, name: Buffer): Buffer
  /** Access control lists come as `system.posix_acl_access` and `_default`: the permission bits follow them. */
  setxattr(nodeid: Nodeid, name: Buffer, value: Buffer, options: XattrOptions): void
  /** All names that the caller may know of, each followed by a NUL byte. */
  listxattr(caller: Caller, nodeid: Nodeid): Buffer
  removexattr(nodeid: Nodeid, name: Buffer): void
}
