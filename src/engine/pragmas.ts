/**
 * SQLite's pragmas (https://www.sqlite.org/pragma.html): running one, and reading one again and again.
 * Keeps: however often that is done, nothing is left of it. better-sqlite3's own `pragma` makes an object each time, of some 2 KB, which is
 *   given back in a turn of the event loop after the garbage collector has found it; the serving thread, which blocks in read(2), has no
 *   such turns, and kept them all. So eslint refuses it.
 * Leaves: which ones a connection needs to connection.ts; checkpoints, which SQLite runs as pragmas too, to checkpoint.ts.
 */
import type { Connection } from './connection.ts'

/** Runs one that is not asked for an answer: `name = value`, say. Throws SqliteError. */
export function runPragma(connection: { exec(sql: string): unknown }, text: string): void {
  connection.exec(`PRAGMA ${text}`)
}

/** Prepares reading one that is a number; returns how to. Not for those that SQLite reads when they are prepared, as `cache_size`. Throws SqliteError. */
export function preparePragma(
  connection: Connection,
  name: 'application_id' | 'freelist_count' | 'page_count' | 'page_size' | 'user_version',
): () => number {
  const statement = connection.prepare(`PRAGMA ${name}`).pluck(true)
  return () => Number(statement.get())
}
