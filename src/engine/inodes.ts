/**
 * Table `inodes`: one row an identity; and table `orphans`, those without a name that wait to be collected.
 * Keeps: the cache holds what the table holds (emptied on rollback); inode numbers are never reused.
 * Leaves: what an operation does to an inode to namespace.ts and content.ts.
 */
import { ErrnoError, uuidv7, type Ino, type Timestamp } from '../base/index.ts'
import type { Connection, Statement } from './connection.ts'
import { bytes, integer, type Row } from './rows.ts'
import type { State } from './state.ts'

/** A row of inodes, without its uuid and target, which are asked for apart. */
export interface Inode {
  readonly ino: Ino
  readonly volume: number
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  readonly rdev: number
  readonly size: number
  /** Bytes in extents. */
  readonly stored: number
  /** Of a directory its parent; otherwise a hint (schema.ts). */
  readonly parent: Ino
  readonly atime: Timestamp
  readonly mtime: Timestamp
  readonly ctime: Timestamp
}

/** What a new inode is made of; times are all the same. */
export type NewInode = Pick<Inode, 'volume' | 'mode' | 'nlink' | 'uid' | 'gid' | 'rdev' | 'size' | 'parent'> & {
  readonly time: Timestamp
  readonly target: Buffer | null
}

/** The fields of an inode that change. */
export type InodePatch = Partial<Omit<Inode, 'ino' | 'volume' | 'rdev'>>

/** How many inodes stay decoded: about 400 bytes each. */
const cacheSize = 8192

const columns = 'ino, volume, mode, nlink, uid, gid, rdev, size, stored, parent, atime, atime_nsec, mtime, mtime_nsec, ctime, ctime_nsec'

const int = (row: Row, index: number, column: string): number => integer(row, index, 'inodes', column)

function decode(row: Row): Inode {
  return {
    ino: int(row, 0, 'ino') as Ino,
    volume: int(row, 1, 'volume'),
    mode: int(row, 2, 'mode'),
    nlink: int(row, 3, 'nlink'),
    uid: int(row, 4, 'uid'),
    gid: int(row, 5, 'gid'),
    rdev: int(row, 6, 'rdev'),
    size: int(row, 7, 'size'),
    stored: int(row, 8, 'stored'),
    parent: int(row, 9, 'parent') as Ino,
    atime: { sec: int(row, 10, 'atime'), nsec: int(row, 11, 'atime_nsec') },
    mtime: { sec: int(row, 12, 'mtime'), nsec: int(row, 13, 'mtime_nsec') },
    ctime: { sec: int(row, 14, 'ctime'), nsec: int(row, 15, 'ctime_nsec') },
  }
}

export class Inodes {
  readonly #state: State
  readonly #select: Statement<[number], Row>
  readonly #selectTarget: Statement<[number], Row>
  readonly #insert: Statement<unknown[]>
  readonly #update: Statement<unknown[]>
  readonly #delete: Statement<[number]>
  readonly #selectOrphans: Statement<[], number>
  readonly #insertOrphan: Statement<[number]>
  readonly #deleteOrphan: Statement<[number]>
  /** Oldest first; emptied on rollback. */
  readonly #cache = new Map<Ino, Inode>()

  constructor(connection: Connection, state: State) {
    this.#state = state
    this.#select = connection.prepare<[number], Row>(`SELECT ${columns} FROM inodes WHERE ino = ?`).raw(true)
    this.#selectTarget = connection.prepare<[number], Row>('SELECT target FROM inodes WHERE ino = ?').raw(true)
    this.#insert = connection.prepare(
      `INSERT INTO inodes (${columns}, btime, btime_nsec, uuid, target) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    )
    this.#update = connection.prepare(
      `UPDATE inodes SET mode = ?, nlink = ?, uid = ?, gid = ?, size = ?, stored = ?, parent = ?,
         atime = ?, atime_nsec = ?, mtime = ?, mtime_nsec = ?, ctime = ?, ctime_nsec = ? WHERE ino = ?`,
    )
    this.#delete = connection.prepare('DELETE FROM inodes WHERE ino = ?')
    this.#selectOrphans = connection.prepare<[], number>('SELECT ino FROM orphans').pluck(true)
    this.#insertOrphan = connection.prepare('INSERT OR IGNORE INTO orphans (ino) VALUES (?)')
    this.#deleteOrphan = connection.prepare('DELETE FROM orphans WHERE ino = ?')
  }

  /** The inode, or undefined when there is none. */
  find(ino: Ino): Inode | undefined {
    const known = this.#cache.get(ino)
    if (known !== undefined) return known
    const row = this.#select.get(ino)
    if (row === undefined) return undefined
    const inode = decode(row)
    this.#remember(inode)
    return inode
  }

  /** The inode. Throws ESTALE when there is none: the kernel asked by a number that it should have forgotten. */
  get(ino: Ino): Inode {
    const inode = this.find(ino)
    if (inode === undefined) throw new ErrnoError('ESTALE', `inode ${String(ino)}: does not exist`, { context: { ino } })
    return inode
  }

  /** The target of a symlink: 1 to 4095 bytes. Throws EIO when the row lacks it. */
  target(ino: Ino): Buffer {
    const row = this.#selectTarget.get(ino)
    if (row === undefined) throw new ErrnoError('ESTALE', `inode ${String(ino)}: does not exist`, { context: { ino } })
    return bytes(row, 0, 'inodes', 'target')
  }

  /** Adds an inode under the next number. Call inside a transaction. */
  insert(values: NewInode): Inode {
    const ino = this.#state.takeIno()
    const { volume, mode, nlink, uid, gid, rdev, size, parent, time, target } = values
    const { sec, nsec } = time
    this.#insert.run(ino, volume, mode, nlink, uid, gid, rdev, size, parent, sec, nsec, sec, nsec, sec, nsec, sec, nsec, uuidv7(), target)
    const inode: Inode = { ino, volume, mode, nlink, uid, gid, rdev, size, stored: 0, parent, atime: time, mtime: time, ctime: time }
    this.#remember(inode)
    return inode
  }

  /** Writes the changed fields and returns the inode as it is now. Call inside a transaction. */
  update(inode: Inode, patch: InodePatch): Inode {
    const changed: Inode = { ...inode, ...patch }
    const { mode, nlink, uid, gid, size, stored, parent, atime, mtime, ctime, ino } = changed
    this.#update.run(
      mode, nlink, uid, gid, size, stored, parent,
      atime.sec, atime.nsec, mtime.sec, mtime.nsec, ctime.sec, ctime.nsec, ino,
    ) // prettier-ignore
    this.#remember(changed)
    return changed
  }

  /** Removes the row, and its orphan mark. Call inside a transaction, after the inode's content is gone. */
  delete(ino: Ino): void {
    this.#delete.run(ino)
    this.#deleteOrphan.run(ino)
    this.#state.dropInode()
    this.#cache.delete(ino)
  }

  /** Notes that the inode has no name any more and waits to be collected. Call inside a transaction. */
  addOrphan(ino: Ino): void {
    this.#insertOrphan.run(ino)
  }

  /** The inode has a name again (linkat of an O_TMPFILE). Call inside a transaction. */
  removeOrphan(ino: Ino): void {
    this.#deleteOrphan.run(ino)
  }

  /** All inodes that wait to be collected. */
  orphans(): Ino[] {
    return this.#selectOrphans.all().map((ino) => ino as Ino)
  }

  /** Drops the cache: what it holds may come from a transaction that was rolled back. */
  rolledBack(): void {
    this.#cache.clear()
  }

  #remember(inode: Inode): void {
    this.#cache.delete(inode.ino)
    this.#cache.set(inode.ino, inode)
    if (this.#cache.size <= cacheSize) return
    for (const oldest of this.#cache.keys()) {
      this.#cache.delete(oldest)
      return
    }
  }
}
