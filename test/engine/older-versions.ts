/**
 * Volume files as earlier versions of the format wrote them.
 * Keeps: what is in the file is the same; only how it is stored is that of the older version.
 */
import { crc32 } from 'node:zlib'
import Database from 'better-sqlite3'
import { piecesPerChunk } from '../../src/engine/schema.ts'

/** Those that store a chunk in one row. */
export const wholeVersions = [1, 2] as const

/** The versions before the newest. */
export const olderVersions = [...wholeVersions, 3] as const

/** Makes of a volume file that nobody has open one of an older version. */
export function makeOlder(file: string, version: (typeof olderVersions)[number]): void {
  const connection = new Database(file)
  if (version === 3) connection.exec('UPDATE pieces SET crc = crc & 0xffffffff')
  else storeWhole(connection, version)
  connection.pragma(`user_version = ${String(version)}`)
  connection.close()
}

/** As versions 1 and 2 did: without pieces. */
function storeWhole(connection: Database.Database, version: (typeof wholeVersions)[number]): void {
  const select = connection.prepare<[number], Buffer>(`SELECT data FROM pieces WHERE id / ${String(piecesPerChunk)} = ? ORDER BY id`)
  const chunks = connection.prepare<[], number>('SELECT id FROM chunks').pluck().all()
  for (const id of chunks) {
    const content = Buffer.concat(select.pluck().all(id))
    connection.prepare('INSERT INTO chunk_data VALUES (?, 0, ?)').run(id, content)
    connection.prepare('UPDATE chunks SET crc = ? WHERE id = ?').run(crc32(content), id)
  }
  connection.exec('DROP TABLE pieces')
  if (version === 1) {
    for (const column of ['connection', 'request', 'request_ino']) connection.exec(`ALTER TABLE state DROP COLUMN ${column}`)
    connection.exec('ALTER TABLE chunks DROP COLUMN crc')
  }
}
