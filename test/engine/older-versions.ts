/**
 * Volume files as earlier versions of the format wrote them.
 * Keeps: what is in the file is the same; only how it is stored is that of the older version.
 */
import { crc32 } from 'node:zlib'
import Database from 'better-sqlite3'
import { piecesPerChunk } from '../../src/engine/schema.ts'

/** The versions before the newest. */
export const olderVersions = [1, 2] as const

/** Makes of a volume file that nobody has open one of an older version. */
export function makeOlder(file: string, version: (typeof olderVersions)[number]): void {
  const connection = new Database(file)
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
  connection.pragma(`user_version = ${String(version)}`)
  connection.close()
}
