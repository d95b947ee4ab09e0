/**
 * An open volume: the node-level operations, each one transaction.
 * Keeps: a method that changes something returns after its commit is in the WAL, or throws and nothing changed (promises 1 and 6);
 *   `sync` returns after the WAL is on the disk.
 * Leaves: ownership of the file to owner.ts, checkpoints and snapshots to maintenance.ts, permissions to the kernel.
 */
import { ErrnoError, S_ISGID, S_ISUID, S_IXGRP, isDirectory, isSymlink, now, type Ino, type Timestamp } from '../base/index.ts'
import { Acls } from './acls.ts'
import { CacheSize } from './cache-size.ts'
import { Chunks } from './chunks.ts'
import { Collector } from './collector.ts'
import { openConnection, translating, type Connection } from './connection.ts'
import { Content } from './content.ts'
import { Dentries, type Dentry } from './dentries.ts'
import { Digests } from './digests.ts'
import { Extents, type SeekTarget } from './extents.ts'
import { ownLostSync, type LostSync } from './lost-sync.ts'
import { Inodes, type Inode, type InodePatch } from './inodes.ts'
import { Namespace, type Creation } from './namespace.ts'
import { readPragma, runPragma } from './pragmas.ts'
import { integer, type Row } from './rows.ts'
import { migrate, schemaVersion } from './schema.ts'
import { Space, type DiskRoom } from './space.ts'
import { State, type CommittedRequest } from './state.ts'
import { Transactions } from './transactions.ts'
import { WalGrowth } from './wal-growth.ts'
import { WalSync } from './wal-sync.ts'
import { WriteGate } from './write-gate.ts'
import { assertWal } from './wal.ts'
import { Xattrs } from './xattrs.ts'

/** The attributes that a caller may set; an absent one stays. */
export interface AttributePatch {
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly size?: number
  readonly atime?: Timestamp
  readonly mtime?: Timestamp
  readonly ctime?: Timestamp
  /** Clear setuid and setgid, as a write by somebody else does. */
  readonly killPrivileges?: boolean
}

/** What a volume is opened for. */
export interface OpenOptions {
  /** Names the FUSE connection that is served from it, the same for all processes that serve it one after the other. Default: 0, none. */
  readonly fuseConnection?: number
  /** Whether a sync has failed, shared with the volume's Maintenance and with successors. Default: its own. */
  readonly lostSync?: LostSync
  /** The gate of the volume's Maintenance, which closes it. Default: one that nobody closes. */
  readonly gate?: WriteGate
  /** Called in each transaction when all but its commit is done. */
  readonly beforeCommit?: () => void
}

/** The disk's room as the volume may use it, and the number of inodes. */
export interface Room extends DiskRoom {
  readonly inodes: number
}

/** The extended attribute that holds file capabilities, capabilities(7): gone after a write or a chown. */
const capabilityName = Buffer.from('security.capability')

export class Volume {
  readonly file: string
  /** The root directory. */
  readonly root: Ino
  /** Those of what is written, which another thread may compute. */
  readonly digests = new Digests()
  readonly #connection: Connection
  readonly #transactions: Transactions
  readonly #state: State
  readonly #space: Space
  readonly #inodes: Inodes
  readonly #dentries: Dentries
  readonly #xattrs: Xattrs
  readonly #acls: Acls
  readonly #namespace: Namespace
  readonly #content: Content
  readonly #collector: Collector
  readonly #cacheSize: CacheSize
  readonly #walGrowth: WalGrowth
  readonly #walSync: WalSync

  private constructor(
    file: string,
    connection: Connection,
    { fuseConnection = 0, lostSync = ownLostSync(), gate = new WriteGate(), beforeCommit }: OpenOptions,
  ) {
    this.file = file
    this.#connection = connection
    this.#cacheSize = new CacheSize(connection)
    this.#walSync = new WalSync(file, lostSync)
    this.#walGrowth = new WalGrowth(this.#walSync, connection)
    const chunks = new Chunks(connection, this.digests)
    this.#state = new State(connection, fuseConnection)
    this.#space = new Space(file, connection, lostSync)
    this.#inodes = new Inodes(connection, this.#state)
    this.#transactions = new Transactions({
      file,
      connection,
      state: this.#state,
      space: this.#space,
      caches: [this.#inodes, chunks],
      gate,
      walGrowth: this.#walGrowth,
      beforeCommit,
    })
    this.#dentries = new Dentries(connection)
    this.#xattrs = new Xattrs(connection)
    this.#acls = new Acls(this.#xattrs)
    this.#namespace = new Namespace(this.#inodes, this.#dentries, this.#acls)
    this.#content = new Content(this.#inodes, chunks, new Extents(connection, chunks), this.digests)
    this.#collector = new Collector({
      transactions: this.#transactions,
      inodes: this.#inodes,
      content: this.#content,
      xattrs: this.#xattrs,
    })
    this.root = readRoot(connection)
  }

  /** Opens a volume file. Call as its owner (owner.ts), once in a process. Throws ENOENT, EIO. */
  static open(file: string, options: OpenOptions = {}): Volume {
    assertWal(file)
    const connection = openConnection(file, 'serving')
    try {
      return translating(file, () => {
        const version = readPragma(connection, 'user_version')
        if (version < schemaVersion) connection.transaction(migrate)(connection, version)
        return new Volume(file, connection, options)
      })
    } catch (error) {
      connection.close()
      throw error
    }
  }

  /**
   * Opens a volume file of the present format that another process still serves, and only looks at it until `resume`. As long as
   * it is open SQLite keeps the index of the WAL when that process dies: there is nothing to recover.
   */
  static standBy(file: string, options: OpenOptions): Volume {
    const connection = openConnection(file, 'serving')
    try {
      return translating(file, () => new Volume(file, connection, options))
    } catch (error) {
      connection.close()
      throw error
    }
  }

  /** The process that served it is dead: goes on with what it has committed. Once, after `standBy`. Throws EIO when its WAL is damaged. */
  resume(): void {
    assertWal(this.file)
    this.#transactions.reading(() => {
      this.#state.reload()
    })
  }

  /** Collects what is left of removed inodes, checkpoints the whole WAL and closes: one file remains. */
  close(): void {
    try {
      this.collect(this.orphans())
      translating(this.file, () => runPragma(this.#connection, 'wal_checkpoint(TRUNCATE)'))
    } finally {
      this.#walSync.close()
      this.#connection.close() // the last connection removes the -wal
    }
  }

  /** The request of that number is served from now on (State). */
  beginRequest(number: number): void {
    this.#state.beginRequest(number)
    this.#cacheSize.begin()
  }

  /** What a predecessor on the same FUSE connection has committed last, as it was when the volume was opened or resumed. */
  get inheritedRequest(): CommittedRequest | undefined {
    return this.#state.inheritedRequest
  }

  /** The inode. Throws ESTALE. */
  get(ino: Ino): Inode {
    return this.#transactions.reading(() => this.#inodes.get(ino))
  }

  lookup(parent: Ino, name: Buffer): Inode | undefined {
    return this.#transactions.reading(() => this.#namespace.lookup(parent, name))
  }

  /** The target of a symlink. Throws EINVAL for anything else. */
  readlink(ino: Ino): Buffer {
    return this.#transactions.reading(() => {
      if (!isSymlink(this.#inodes.get(ino).mode)) throw new ErrnoError('EINVAL', `inode ${String(ino)}: is not a symlink`)
      return this.#inodes.target(ino)
    })
  }

  /** The entries after `cookie` in order, `.` and `..` not among them, until `visit` returns false. */
  list(ino: Ino, cookie: number, visit: (dentry: Dentry) => boolean): void {
    this.#transactions.reading(() => {
      if (!isDirectory(this.#inodes.get(ino).mode)) throw new ErrnoError('ENOTDIR', `inode ${String(ino)}: is not a directory`)
      this.#dentries.list(ino, cookie, visit)
    })
  }

  create(parent: Ino, name: Buffer, creation: Creation): Inode {
    return this.#naming(creation.target?.length ?? 0, () => this.#namespace.create(parent, name, creation))
  }

  createUnnamed(parent: Ino, creation: Creation): Inode {
    return this.#naming(0, () => this.#namespace.createUnnamed(parent, creation))
  }

  link(ino: Ino, parent: Ino, name: Buffer): Inode {
    return this.#naming(0, () => this.#namespace.link(ino, parent, name))
  }

  /** A transaction whose answer names an inode. */
  #naming(bytes: number, work: () => Inode): Inode {
    return this.#transactions.adding(bytes, () => {
      const inode = work()
      this.#state.nameAnswer(inode.ino)
      return inode
    })
  }

  /** Removes a name; at nlink 0 the inode is an orphan until `collect`. */
  unlink(parent: Ino, name: Buffer): Inode {
    return this.#transactions.changing(() => this.#namespace.unlink(parent, name))
  }

  rmdir(parent: Ino, name: Buffer): Inode {
    return this.#transactions.changing(() => this.#namespace.rmdir(parent, name))
  }

  /** Returns the inode that lost its name to the rename, if any: with nlink 0 it is an orphan until `collect`. */
  rename(parent: Ino, name: Buffer, newParent: Ino, newName: Buffer, flags: number): Inode | undefined {
    return this.#transactions.changing(() => this.#namespace.rename(parent, name, newParent, newName, flags))
  }

  /** Fills `into` from `offset`; returns how many bytes the file had there. */
  read(ino: Ino, offset: number, into: Buffer): number {
    this.#cacheSize.move(into.length)
    return this.#transactions.reading(() => this.#content.read(ino, offset, into))
  }

  write(ino: Ino, offset: number, data: Buffer, options: { keepTimes: boolean; killPrivileges: boolean }): void {
    this.#cacheSize.move(data.length)
    this.#transactions.adding(data.length, () => {
      const clearMode = options.killPrivileges && data.length > 0 ? this.#privileges(this.#inodes.get(ino)) : 0
      this.#content.write(ino, offset, data, { keepTimes: options.keepTimes, clearMode })
    })
  }

  /**
   * Makes room as fallocate(2) does, or takes it away. Space is not reserved: that there is room now is all that is said.
   * Throws ENOSPC, EFBIG.
   */
  allocate(ino: Ino, offset: number, length: number, options: { keepSize: boolean; killPrivileges?: boolean }): void {
    this.#transactions.adding(0, () => {
      if (options.killPrivileges === true) this.#killPrivileges(ino)
      this.#space.assertRoom(this.#content.holesIn(ino, offset, length))
      this.#content.extend(ino, options.keepSize ? 0 : offset + length)
    })
  }

  /** Makes a range a hole: zeros that take no space. Beyond the end the file grows unless `keepSize`. Throws EFBIG. */
  clear(ino: Ino, offset: number, length: number, options: { keepSize: boolean; killPrivileges?: boolean }): void {
    this.#transactions.changing(() => {
      if (options.killPrivileges === true) this.#killPrivileges(ino)
      this.#content.clear(ino, offset, length)
      this.#content.extend(ino, options.keepSize ? 0 : offset + length)
    })
  }

  /** Where from `offset` on the next stored byte or the next hole is; the end counts as a hole. Throws ENXIO past the end or the last data. */
  seek(ino: Ino, offset: number, target: SeekTarget): number {
    return this.#transactions.reading(() => this.#content.seek(ino, offset, target))
  }

  /**
   * Has `length` bytes of `target` be those of `source` by naming the same chunks: nothing is copied. The ranges do not overlap.
   * Returns how many bytes: fewer at the end of the source, and after 1 GiB. Throws EFBIG.
   */
  copyRange(source: Ino, sourceOffset: number, target: Ino, targetOffset: number, length: number, killPrivileges = false): number {
    return this.#transactions.adding(0, () => {
      const copied = this.#content.copy(source, sourceOffset, target, targetOffset, length)
      if (killPrivileges) this.#killPrivileges(target)
      return copied
    })
  }

  /** Sets attributes, all or none; ctime is now unless given. Returns the inode as it is then. */
  setAttributes(ino: Ino, patch: AttributePatch): Inode {
    return this.#transactions.changing(() => this.#setAttributes(this.#inodes.get(ino), patch))
  }

  #setAttributes(inode: Inode, patch: AttributePatch): Inode {
    const time = now()
    const { size, killPrivileges = false, ...fields } = patch
    const resized = size === undefined ? inode : this.#content.resize(inode, size)
    const isOwned = patch.uid !== undefined || patch.gid !== undefined
    const clear = killPrivileges || isOwned ? this.#privileges(resized) : 0
    const changes: InodePatch = { ctime: time, ...(size === undefined ? {} : { mtime: time }), ...fields }
    const mode = patch.mode === undefined ? resized.mode & ~clear : (resized.mode & ~0o7777) | (patch.mode & 0o7777)
    if (patch.mode !== undefined) this.#acls.follow(inode.ino, mode)
    return this.#inodes.update(resized, { ...changes, mode })
  }

  /** Clears setuid and setgid as a write by somebody else does. Call inside a transaction. */
  #killPrivileges(ino: Ino): void {
    const inode = this.#inodes.get(ino)
    const clear = this.#privileges(inode)
    if (clear !== 0) this.#inodes.update(inode, { mode: inode.mode & ~clear })
  }

  /** The bits that a write or chown by somebody else clears, inode(7), capabilities gone. Call inside a transaction. */
  #privileges(inode: Inode): number {
    if (isDirectory(inode.mode)) return 0
    this.#xattrs.delete(inode.ino, capabilityName)
    return (inode.mode & S_ISUID) | ((inode.mode & S_IXGRP) === 0 ? 0 : inode.mode & S_ISGID)
  }

  /** The value of an extended attribute. Throws ENODATA. */
  getXattr(ino: Ino, name: Buffer): Buffer {
    const value = this.#transactions.reading(() => this.#xattrs.find(this.#inodes.get(ino).ino, name))
    if (value === undefined) throw new ErrnoError('ENODATA', `inode ${String(ino)}: the attribute does not exist`)
    return value
  }

  xattrNames(ino: Ino): Buffer[] {
    return this.#transactions.reading(() => this.#xattrs.names(this.#inodes.get(ino).ino))
  }

  /** `flags` as in setxattr(2). An access control list takes the permission bits along; `clearSetgid` is for it. */
  setXattr(ino: Ino, name: Buffer, value: Buffer, flags: number, clearSetgid = false): void {
    this.#transactions.adding(value.length, () => {
      const inode = this.#inodes.get(ino)
      if (Acls.isName(name)) {
        this.#inodes.update(inode, { ctime: now(), mode: this.#acls.set(inode, name, value, clearSetgid) })
        return
      }
      this.#xattrs.set(ino, name, value, flags)
      this.#inodes.update(inode, { ctime: now() })
    })
  }

  /** Throws ENODATA when there is none; removing a list that is not there is nothing, as in ext4. */
  removeXattr(ino: Ino, name: Buffer): void {
    if (Acls.isName(name) && this.#transactions.reading(() => this.#xattrs.find(this.#inodes.get(ino).ino, name)) === undefined) return
    this.#transactions.changing(() => {
      const inode = this.#inodes.get(ino)
      if (!this.#xattrs.delete(ino, name)) throw new ErrnoError('ENODATA', `inode ${String(ino)}: the attribute does not exist`)
      this.#inodes.update(inode, { ctime: now() })
    })
  }

  /** Removes all that is left of inodes without names; of others, nothing. Small ones share a transaction. */
  collect(inos: readonly Ino[]): void {
    this.#collector.collect(inos)
  }

  /** The inodes without names that are not collected. */
  orphans(): Ino[] {
    return this.#collector.orphans()
  }

  /** The number that the next new inode gets: all there are have lower ones. */
  get nextIno(): number {
    return this.#state.nextIno
  }

  /**
   * Returns when everything committed so far is on the disk (fdatasync(2) of the WAL): it survives power loss.
   * Throws EIO; after that every sync does (lost-sync.ts).
   */
  sync(): void {
    this.#walSync.sync(this.#state.commits)
    this.#walGrowth.synced()
  }

  /** Whether the disk has so little room that what can be freed should be freed now. */
  isScarce(): boolean {
    return this.#transactions.reading(() => this.#space.isScarce())
  }

  /** What statfs(2) tells. */
  room(): Room {
    return this.#transactions.reading(() => ({ ...this.#space.room(), inodes: this.#state.inodes }))
  }
}

function readRoot(connection: Connection): Ino {
  const row = connection.prepare<[], Row>('SELECT root FROM volumes ORDER BY id LIMIT 1').raw(true).get()
  if (row === undefined) throw new ErrnoError('EIO', 'table volumes: it is empty')
  return integer(row, 0, 'volumes', 'root') as Ino
}
