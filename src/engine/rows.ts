/**
 * Checked decoding of rows: what SQLite hands back is `unknown` until a column has been looked at.
 * Keeps: a NULL or a wrong type where none can be is damage (EIO), never 0 or an empty buffer.
 * Leaves: what the columns mean to the table modules.
 */
import { ErrnoError } from '../base/index.ts'

/** A row of a statement in raw mode: the columns in order. */
export type Row = readonly unknown[]

function damaged(table: string, column: string, value: unknown): never {
  throw new ErrnoError('EIO', `table ${table}: column ${column} holds ${value === null ? 'NULL' : typeof value}`, {
    context: { table, column },
  })
}

/** The integer in column `index` of `row`. Throws EIO when it is none. */
export function integer(row: Row, index: number, table: string, column: string): number {
  const value = row[index]
  return typeof value === 'number' ? value : damaged(table, column, value)
}

/** The bytes in column `index` of `row`; the buffer is the caller's. Throws EIO when they are none. */
export function bytes(row: Row, index: number, table: string, column: string): Buffer {
  const value = row[index]
  return Buffer.isBuffer(value) ? value : damaged(table, column, value)
}
