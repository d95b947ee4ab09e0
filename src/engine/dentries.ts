/**
 * Table `dentries`: the names in directories.
 * Keeps: one row for a name; a cookie grows with every entry added to its directory, so that a listing that goes on
 *   after a cookie neither skips nor repeats an entry that was there all the while.
 * Leaves: link counts and times to namespace.ts.
 */
import type { Ino } from '../base/index.ts'
import type { Connection, Statement } from './connection.ts'
import { bytes, integer, type Row } from './rows.ts'

/** A row of dentries. */
export interface Dentry {
  readonly name: Buffer
  readonly cookie: number
  readonly ino: Ino
  /** `mode >> 12` of the inode: DT_* of readdir(3). */
  readonly type: number
}

/** Cookies 1 and 2 are those of `.` and `..`. */
export const firstCookie = 3

/** Entries fetched at once by a listing: the reply of one READDIR holds about as many. In the SQL itself, as in extents.ts. */
const page = 128

const table = 'dentries'

function decode(row: Row): Dentry {
  const [name, cookie] = [bytes(row, 0, table, 'name'), integer(row, 1, table, 'cookie')]
  return { name, cookie, ino: integer(row, 2, table, 'ino') as Ino, type: integer(row, 3, table, 'type') }
}

export class Dentries {
  readonly #find: Statement<[number, Buffer], Row>
  readonly #list: Statement<[number, number, number], Row>
  readonly #last: Statement<[number, number], number>
  readonly #insert: Statement<[number, number, Buffer, number, number]>
  readonly #delete: Statement<[number, number]>
  readonly #repoint: Statement<[number, number, number, number]>
  readonly #nameIn: Statement<[number, number], Row>
  readonly #anywhere: Statement<[number], Row>

  constructor(connection: Connection) {
    this.#find = connection
      .prepare<[number, Buffer], Row>('SELECT name, cookie, ino, type FROM dentries WHERE parent = ? AND name = ?')
      .raw(true)
    this.#list = connection
      .prepare<[number, number, number], Row>(
        `SELECT name, cookie, ino, type FROM dentries WHERE (parent, cookie) > (?, ?) AND (parent, cookie) < (?, 0) ORDER BY parent, cookie LIMIT ${String(page)}`,
      )
      .raw(true)
    this.#last = connection
      .prepare<[number, number], number>(
        'SELECT cookie FROM dentries WHERE (parent, cookie) > (?, 0) AND (parent, cookie) < (?, 0) ORDER BY parent DESC, cookie DESC LIMIT 1',
      )
      .pluck(true)
    this.#insert = connection.prepare('INSERT INTO dentries (parent, cookie, name, ino, type) VALUES (?, ?, ?, ?, ?)')
    this.#delete = connection.prepare('DELETE FROM dentries WHERE parent = ? AND cookie = ?')
    this.#repoint = connection.prepare('UPDATE dentries SET ino = ?, type = ? WHERE parent = ? AND cookie = ?')
    this.#nameIn = connection
      .prepare<[number, number], Row>('SELECT name, cookie, ino, type FROM dentries WHERE parent = ? AND ino = ? LIMIT 1')
      .raw(true)
    this.#anywhere = connection.prepare<[number], Row>('SELECT parent, name FROM dentries WHERE ino = ? LIMIT 1').raw(true)
  }

  /** The entry of that name, or undefined. */
  find(parent: Ino, name: Buffer): Dentry | undefined {
    const row = this.#find.get(parent, name)
    return row === undefined ? undefined : decode(row)
  }

  /** The entries after `cookie`, in order, until `visit` returns false. */
  list(parent: Ino, cookie: number, visit: (dentry: Dentry) => boolean): void {
    for (let after = Math.max(cookie, firstCookie - 1); ;) {
      const rows = this.#list.all(parent, after, parent + 1)
      for (const row of rows) {
        const dentry = decode(row)
        if (!visit(dentry)) return
        after = dentry.cookie
      }
      if (rows.length < page) return
    }
  }

  /** Whether the directory has no entries. */
  isEmpty(parent: Ino): boolean {
    return this.#last.get(parent, parent + 1) === undefined
  }

  /** Adds a name. Call inside a transaction, after `find` said it is free. */
  insert(parent: Ino, name: Buffer, ino: Ino, mode: number): void {
    const cookie = (this.#last.get(parent, parent + 1) ?? firstCookie - 1) + 1
    this.#insert.run(parent, cookie, name, ino, mode >> 12)
  }

  /** Removes an entry. Call inside a transaction. */
  delete(parent: Ino, dentry: Dentry): void {
    this.#delete.run(parent, dentry.cookie)
  }

  /** Makes an entry name another inode. Call inside a transaction. */
  repoint(parent: Ino, dentry: Dentry, ino: Ino, mode: number): void {
    this.#repoint.run(ino, mode >> 12, parent, dentry.cookie)
  }

  /** Some place that names the inode: in `hint` if it is there, else anywhere (reads the whole table). */
  locate(ino: Ino, hint: Ino): { parent: Ino; name: Buffer } | undefined {
    const near = this.#nameIn.get(hint, ino)
    if (near !== undefined) return { parent: hint, name: bytes(near, 0, table, 'name') }
    const far = this.#anywhere.get(ino)
    return far === undefined ? undefined : { parent: integer(far, 0, table, 'parent') as Ino, name: bytes(far, 1, table, 'name') }
  }
}
