/**
 * The schema of a volume file against the one that our migrations make.
 * Keeps: a table, index, view or trigger that is not ours, or not as ours, is found; nothing of the file's own schema is run.
 * Leaves: rows to check-rules.ts.
 */
import Database from 'better-sqlite3'
import type { Connection } from './connection.ts'
import { migrate } from './schema.ts'

/** `table inodes` → its SQL in a form that ignores comments and white space. */
type Objects = ReadonlyMap<string, string>

/** What is wrong with the schema of a file of format `version`; each place names the object. */
export function compareSchema(connection: Connection, version: number): string[] {
  const [actual, expected] = [readObjects(connection), expectedObjects(version)]
  const foreign = [...actual.keys()].filter((name) => !expected.has(name)).map((name) => `${name}, which does not belong in a volume`)
  const missing = [...expected.keys()].filter((name) => !actual.has(name)).map((name) => `${name}, which is missing`)
  const changed = [...expected].filter(([name, sql]) => actual.has(name) && actual.get(name) !== sql)
  return [...foreign, ...missing, ...changed.map(([name]) => `${name}, which is not the one of format version ${String(version)}`)]
}

/** What the migrations make, found by running them. */
function expectedObjects(version: number): Objects {
  const reference = new Database(':memory:')
  try {
    migrate(reference, 0, version)
    return readObjects(reference)
  } finally {
    reference.close()
  }
}

function readObjects(connection: Connection): Objects {
  const rows = connection
    .prepare<[], readonly [unknown, unknown, unknown, unknown]>('SELECT type, name, tbl_name, sql FROM sqlite_schema')
    .raw(true)
    .all()
  const objects = new Map<string, string>()
  for (const [type, name, table, sql] of rows) {
    const key = `${String(type)} ${String(name)}`
    objects.set(objects.has(key) ? `second ${key}` : key, `${String(table)}: ${normalize(String(sql))}`)
  }
  return objects
}

/** A comment of our own may change between releases. What SQLite takes for text begins with a quote, which stays: none can hide here. */
function normalize(sql: string): string {
  return sql.replaceAll(/--.*/g, '').replaceAll(/\s+/g, ' ').trim()
}
