/**
 * SQLite's pragmas (https://www.sqlite.org/pragma.html): running one, and reading one, once or again and again.
 * Keeps: however often one is run, or read by what was prepared, nothing is left of it. better-sqlite3's own `pragma` makes an object each
 *   time, some 2 KB that are given back in a turn of the event loop after a collection of the old generation: the serving thread, which
 *   blocks in read(2), has few of both. So eslint refuses it.
 * Leaves: which ones a connection needs to connection.ts, checkpoints of a volume that is served to checkpoint.ts.
 */
import type { Connection } from './connection.ts'

/** Runs one that is not asked for an answer: `name = value`, say. Throws SqliteError. */
export function runPragma(connection: { exec(sql: string): unknown }, text: string): void {
  connection.exec(`PRAGMA ${text}`)
}

/** Reads one that is a number. An object is left of it: not for what is asked with each request. Throws SqliteError. */
export function readPragma(connection: Connection, name: 'application_id' | 'page_count' | 'page_size' | 'user_version'): number {
  return Number(connection.prepare(`PRAGMA ${name}`).pluck(true).get())
}

/** Prepares reading one that is a number and changes; returns how to. Throws SqliteError. */
export function preparePragma(connection: Connection, name: 'freelist_count' | 'page_count'): () => number {
  const statement = connection.prepare(`PRAGMA ${name}`).pluck(true)
  return () => Number(statement.get())
}
