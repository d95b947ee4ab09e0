/**
 * Table `xattrs`: extended attributes, xattr(7).
 * Keeps: names of 1 to 255 bytes in a known namespace, values of at most 64 KiB. Leaves: ctime and transactions to volume.ts.
 */
import { ErrnoError, NAME_MAX, type Ino } from '../base/index.ts'
import type { Connection, Statement } from './connection.ts'
import { bytes, type Row } from './rows.ts'

/** XATTR_SIZE_MAX of limits.h. */
const maximumValue = 65536

/** Flags of setxattr(2). */
const XATTR_CREATE = 1
const XATTR_REPLACE = 2

/** What a name begins with, and the names outside of these: all that xattr(7) knows. */
const namespaces = ['user.', 'trusted.', 'security.'].map((prefix) => Buffer.from(prefix))
const otherNames = ['system.posix_acl_access', 'system.posix_acl_default'].map((name) => Buffer.from(name))

/** Throws EOPNOTSUPP for a name in no known namespace, EINVAL for a namespace alone: the kernel lets any name pass to a FUSE
 *  server, and checks no permission for those of `system.`. */
function assertNamespace(name: Buffer): void {
  const prefix = namespaces.find((known) => name.subarray(0, known.length).equals(known))
  if (prefix === undefined && !otherNames.some((known) => known.equals(name)))
    throw new ErrnoError('EOPNOTSUPP', 'attribute name: in no known namespace')
  if (prefix?.length === name.length) throw new ErrnoError('EINVAL', 'attribute name: a namespace and nothing else')
}

export class Xattrs {
  readonly #select: Statement<[number, Buffer], Row>
  readonly #list: Statement<[number, number], Row>
  readonly #upsert: Statement<[number, Buffer, Buffer]>
  readonly #delete: Statement<[number, Buffer]>
  readonly #deleteAll: Statement<[number]>
  readonly #selectAny: Statement<[], Row>
  /**
   * Whether the volume may have any, undefined until it is needed; never false while there are some. Most have none, and yet the kernel
   * asks for one with each new file (security.capability), and so does each creation (the list that it inherits).
   */
  #mayHaveAny: boolean | undefined

  constructor(connection: Connection) {
    this.#select = connection.prepare<[number, Buffer], Row>('SELECT value FROM xattrs WHERE ino = ? AND name = ?').raw(true)
    this.#list = connection
      .prepare<[number, number], Row>("SELECT name FROM xattrs WHERE (ino, name) > (?, x'') AND (ino, name) < (?, x'') ORDER BY ino, name")
      .raw(true)
    this.#upsert = connection.prepare(
      'INSERT INTO xattrs (ino, name, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value',
    )
    this.#delete = connection.prepare('DELETE FROM xattrs WHERE ino = ? AND name = ?')
    this.#deleteAll = connection.prepare('DELETE FROM xattrs WHERE ino = ?')
    this.#selectAny = connection.prepare<[], Row>('SELECT 1 FROM xattrs LIMIT 1').raw(true)
  }

  /** The value, or undefined. Throws EOPNOTSUPP, EINVAL. */
  find(ino: Ino, name: Buffer): Buffer | undefined {
    assertNamespace(name)
    const row = this.#isEmpty ? undefined : this.#select.get(ino, name)
    return row === undefined ? undefined : bytes(row, 0, 'xattrs', 'value')
  }

  /** All names, in byte order. */
  names(ino: Ino): Buffer[] {
    return this.#isEmpty ? [] : this.#list.all(ino, ino + 1).map((row) => bytes(row, 0, 'xattrs', 'name'))
  }

  /** Sets a value by the rules of setxattr(2). Call inside a transaction. Throws EOPNOTSUPP, ERANGE, E2BIG, EEXIST, ENODATA. */
  set(ino: Ino, name: Buffer, value: Buffer, flags: number): void {
    assertNamespace(name)
    if (name.length === 0 || name.length > NAME_MAX) throw new ErrnoError('ERANGE', 'attribute name: it has 1 to 255 bytes')
    if (value.length > maximumValue) throw new ErrnoError('E2BIG', `attribute value: it has at most ${String(maximumValue)} bytes`)
    if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw new ErrnoError('EINVAL', 'attribute: unknown flags')
    if (flags !== 0) {
      const exists = this.#select.get(ino, name) !== undefined
      if (exists && (flags & XATTR_CREATE) !== 0) throw new ErrnoError('EEXIST', 'attribute: exists already')
      if (!exists && (flags & XATTR_REPLACE) !== 0) throw new ErrnoError('ENODATA', 'attribute: does not exist')
    }
    this.#upsert.run(ino, name, value)
    this.#mayHaveAny = true
  }

  /** Removes one; false when there was none. Call inside a transaction. Throws EOPNOTSUPP, EINVAL. */
  delete(ino: Ino, name: Buffer): boolean {
    assertNamespace(name)
    return !this.#isEmpty && this.#delete.run(ino, name).changes > 0
  }

  /** Removes all of an inode that is going. Call inside a transaction. */
  deleteAll(ino: Ino): void {
    if (!this.#isEmpty) this.#deleteAll.run(ino)
  }

  get #isEmpty(): boolean {
    return !(this.#mayHaveAny ??= this.#selectAny.get() !== undefined)
  }
}
