/**
 * An open volume: the node-level operations, each one transaction.
 * Keeps: a method that changes something returns after its commit is in the WAL, or throws and nothing changed (promises 1 and 6);
 *   `sync` returns after the WAL is on the disk.
 * Leaves: ownership of the file to owner.ts, checkpoints and snapshots to maintenance.ts, permissions to the kernel.
 */
import { closeSync, existsSync, fdatasyncSync, fsyncSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { ErrnoError, S_ISGID, S_ISUID, S_IXGRP, isDirectory, isSymlink, now, type Ino, type Timestamp } from '../base/index.ts'
import { Chunks } from './chunks.ts'
import { openConnection, translateError, translating, type Connection, type Statement } from './connection.ts'
import { Content, type WriteOptions } from './content.ts'
import { Dentries, type Dentry } from './dentries.ts'
import { Extents } from './extents.ts'
import { Inodes, type Inode, type InodePatch } from './inodes.ts'
import { Namespace, type Creation } from './namespace.ts'
import { integer, type Row } from './rows.ts'
import { migrate, schemaVersion } from './schema.ts'
import { Space, type DiskRoom } from './space.ts'
import { State } from './state.ts'
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
  readonly #connection: Connection
  readonly #begin: Statement<[]>
  readonly #commit: Statement<[]>
  readonly #rollback: Statement<[]>
  readonly #state: State
  readonly #space: Space
  readonly #inodes: Inodes
  readonly #dentries: Dentries
  readonly #chunks: Chunks
  readonly #xattrs: Xattrs
  readonly #namespace: Namespace
  readonly #content: Content
  /** The -wal file, open from the first sync on. SQLite takes no POSIX lock on it, so closing it drops none. */
  #wal: number | undefined

  private constructor(file: string, connection: Connection) {
    this.file = file
    this.#connection = connection
    this.#begin = connection.prepare('BEGIN IMMEDIATE')
    this.#commit = connection.prepare('COMMIT')
    this.#rollback = connection.prepare('ROLLBACK')
    this.#state = new State(connection)
    this.#space = new Space(file, connection)
    this.#inodes = new Inodes(connection, this.#state)
    this.#dentries = new Dentries(connection)
    this.#chunks = new Chunks(connection)
    this.#xattrs = new Xattrs(connection)
    this.#namespace = new Namespace(this.#inodes, this.#dentries)
    this.#content = new Content(this.#inodes, this.#chunks, new Extents(connection, this.#chunks))
    this.root = readRoot(connection)
  }

  /** Opens a volume file. Call as its owner (owner.ts), once in a process. Throws ENOENT, EIO. */
  static open(file: string): Volume {
    const connection = openConnection(file, 'serving')
    try {
      return translating(file, () => {
        const version = Number(connection.pragma('user_version', { simple: true }))
        if (version < schemaVersion) connection.transaction(migrate)(connection, version)
        return new Volume(file, connection)
      })
    } catch (error) {
      connection.close()
      throw error
    }
  }

  /** Collects what is left of removed inodes, checkpoints the whole WAL and closes: one file remains. */
  close(): void {
    if (this.#wal !== undefined) closeSync(this.#wal)
    this.#wal = undefined
    try {
      this.collectOrphans()
      translating(this.file, () => this.#connection.pragma('wal_checkpoint(TRUNCATE)'))
    } finally {
      this.#connection.close() // the last connection removes the -wal
    }
  }

  /** The inode. Throws ESTALE. */
  get(ino: Ino): Inode {
    return this.#reading(() => this.#inodes.get(ino))
  }

  lookup(parent: Ino, name: Buffer): Inode | undefined {
    return this.#reading(() => this.#namespace.lookup(parent, name))
  }

  /** The target of a symlink. Throws EINVAL for anything else. */
  readlink(ino: Ino): Buffer {
    return this.#reading(() => {
      if (!isSymlink(this.#inodes.get(ino).mode)) throw new ErrnoError('EINVAL', `inode ${String(ino)}: is not a symlink`)
      return this.#inodes.target(ino)
    })
  }

  /** The entries after `cookie` in order, `.` and `..` not among them, until `visit` returns false. */
  list(ino: Ino, cookie: number, visit: (dentry: Dentry) => boolean): void {
    this.#reading(() => {
      if (!isDirectory(this.#inodes.get(ino).mode)) throw new ErrnoError('ENOTDIR', `inode ${String(ino)}: is not a directory`)
      this.#dentries.list(ino, cookie, visit)
    })
  }

  create(parent: Ino, name: Buffer, creation: Creation): Inode {
    return this.#adding(creation.target?.length ?? 0, () => this.#namespace.create(parent, name, creation))
  }

  createUnnamed(parent: Ino, creation: Creation): Inode {
    return this.#adding(0, () => this.#namespace.createUnnamed(parent, creation))
  }

  link(ino: Ino, parent: Ino, name: Buffer): Inode {
    return this.#adding(0, () => this.#namespace.link(ino, parent, name))
  }

  /** Removes a name; at nlink 0 the inode is an orphan until `collect`. */
  unlink(parent: Ino, name: Buffer): Inode {
    return this.#changing(() => this.#namespace.unlink(parent, name))
  }

  rmdir(parent: Ino, name: Buffer): Inode {
    return this.#changing(() => this.#namespace.rmdir(parent, name))
  }

  /** Returns the inode that lost its name to the rename, if any: with nlink 0 it is an orphan until `collect`. */
  rename(parent: Ino, name: Buffer, newParent: Ino, newName: Buffer, flags: number): Inode | undefined {
    return this.#changing(() => this.#namespace.rename(parent, name, newParent, newName, flags))
  }

  /** Fills `into` from `offset`; returns how many bytes the file had there. */
  read(ino: Ino, offset: number, into: Buffer): number {
    return this.#reading(() => this.#content.read(ino, offset, into))
  }

  write(ino: Ino, offset: number, data: Buffer, options: { keepTimes: boolean; killPrivileges: boolean }): void {
    this.#adding(data.length, () => {
      const clearMode = options.killPrivileges ? this.#privileges(this.#inodes.get(ino)) : 0
      const writeOptions: WriteOptions = { keepTimes: options.keepTimes, clearMode }
      this.#content.write(ino, offset, data, writeOptions)
    })
  }

  /** Sets attributes, all or none; ctime is now unless given. Returns the inode as it is then. */
  setAttributes(ino: Ino, patch: AttributePatch): Inode {
    return this.#changing(() => this.#setAttributes(this.#inodes.get(ino), patch))
  }

  #setAttributes(inode: Inode, patch: AttributePatch): Inode {
    const time = now()
    const { size, killPrivileges = false, ...fields } = patch
    const resized = size === undefined ? inode : this.#content.resize(inode, size)
    const isOwned = patch.uid !== undefined || patch.gid !== undefined
    const clear = killPrivileges || isOwned ? this.#privileges(resized) : 0
    const changes: InodePatch = { ctime: time, ...(size === undefined ? {} : { mtime: time }), ...fields }
    const mode = patch.mode === undefined ? resized.mode & ~clear : (resized.mode & ~0o7777) | (patch.mode & 0o7777)
    return this.#inodes.update(resized, { ...changes, mode })
  }

  /** The bits that a write or chown by somebody else clears, inode(7), capabilities gone. Call inside a transaction. */
  #privileges(inode: Inode): number {
    if (isDirectory(inode.mode)) return 0
    this.#xattrs.delete(inode.ino, capabilityName)
    return (inode.mode & S_ISUID) | ((inode.mode & S_IXGRP) === 0 ? 0 : inode.mode & S_ISGID)
  }

  /** The value of an extended attribute. Throws ENODATA. */
  getXattr(ino: Ino, name: Buffer): Buffer {
    const value = this.#reading(() => this.#xattrs.find(ino, name))
    if (value === undefined) throw new ErrnoError('ENODATA', `inode ${String(ino)}: the attribute does not exist`)
    return value
  }

  xattrNames(ino: Ino): Buffer[] {
    return this.#reading(() => this.#xattrs.names(ino))
  }

  /** `flags` as in setxattr(2). */
  setXattr(ino: Ino, name: Buffer, value: Buffer, flags: number): void {
    this.#adding(value.length, () => {
      this.#xattrs.set(ino, name, value, flags)
      this.#inodes.update(this.#inodes.get(ino), { ctime: now() })
    })
  }

  removeXattr(ino: Ino, name: Buffer): void {
    this.#changing(() => {
      if (!this.#xattrs.delete(ino, name)) throw new ErrnoError('ENODATA', `inode ${String(ino)}: the attribute does not exist`)
      this.#inodes.update(this.#inodes.get(ino), { ctime: now() })
    })
  }

  /** Removes all that is left of an inode without names; of any other, nothing. A large file goes in several transactions. */
  collect(ino: Ino): void {
    if (this.#reading(() => this.#inodes.find(ino))?.nlink !== 0) return
    while (this.#housekeeping(() => this.#content.removeSome(ino))) continue
    this.#housekeeping(() => {
      this.#xattrs.deleteAll(ino)
      this.#inodes.delete(ino)
    })
  }

  /** Collects every inode without names: nothing holds them any more. */
  collectOrphans(): void {
    for (const ino of this.#reading(() => this.#inodes.orphans())) this.collect(ino)
  }

  /** Returns when everything committed so far is on the disk (fdatasync(2) of the WAL): it survives power loss. */
  sync(): void {
    translating(this.file, () => {
      this.#wal ??= this.#openWal()
      fdatasyncSync(this.#wal)
    })
  }

  /** What statfs(2) tells. */
  room(): Room {
    return this.#reading(() => ({ ...this.#space.room(), inodes: this.#state.inodes }))
  }

  /** Opens the -wal and makes its name durable too: SQLite itself would sync the directory only with its first own sync. */
  #openWal(): number {
    const file = `${this.file}-wal`
    if (!existsSync(file)) throw new ErrnoError('EIO', `volume file ${this.file}: its -wal is gone while it is open`)
    const directory = openSync(dirname(file), 'r')
    fsyncSync(directory)
    closeSync(directory)
    return openSync(file, 'r+')
  }

  #reading<T>(work: () => T): T {
    try {
      return work()
    } catch (error) {
      throw translateError(this.file, error)
    }
  }

  /** One transaction that adds `bytes` and whose change a user can see: refused on a disk that is as good as full. */
  #adding<T>(bytes: number, work: () => T): T {
    this.#reading(() => {
      this.#space.take(bytes)
    })
    return this.#changing(work)
  }

  /** One transaction whose change a user can see. */
  #changing<T>(work: () => T): T {
    return this.#transaction(work, true)
  }

  /** One transaction that no user can see: it moves the name of the bytes, not the change token. */
  #housekeeping<T>(work: () => T): T {
    return this.#transaction(work, false)
  }

  /** Runs `work` in a transaction; on a full disk once more, after the WAL's space was given back. */
  #transaction<T>(work: () => T, isVisible: boolean): T {
    try {
      return this.#attempt(work, isVisible)
    } catch (error) {
      if (!(error instanceof ErrnoError) || error.code !== 'ENOSPC') throw error
      this.#space.reclaim()
      return this.#attempt(work, isVisible)
    }
  }

  #attempt<T>(work: () => T, isVisible: boolean): T {
    try {
      this.#begin.run()
      const result = work()
      this.#state.advance(isVisible)
      this.#commit.run()
      this.#state.committed()
      return result
    } catch (error) {
      this.#undo()
      throw translateError(this.file, error)
    }
  }

  /** Ends a failed transaction; some errors (SQLITE_FULL) have ended it already. */
  #undo(): void {
    this.#state.rolledBack()
    this.#inodes.rolledBack()
    this.#chunks.rolledBack()
    if (this.#connection.inTransaction) this.#rollback.run()
  }
}

function readRoot(connection: Connection): Ino {
  const row = connection.prepare<[], Row>('SELECT root FROM volumes ORDER BY id LIMIT 1').raw(true).get()
  if (row === undefined) throw new ErrnoError('EIO', 'table volumes: it is empty')
  return integer(row, 0, 'volumes', 'root') as Ino
}
