/**
 * Check: proves a volume file consistent, by SQL over its tables.
 * Keeps: it changes nothing; each rule is one query that returns what breaks it.
 * Leaves: mending to nobody: damage is reported.
 */
import Database from 'better-sqlite3'
import { existsSync } from 'node:fs'
import { ErrnoError } from '../base/index.ts'
import { translating, type Connection } from './connection.ts'
import { chunkAddress, decodeChunk } from './codec.ts'
import { bytes, integer, type Row } from './rows.ts'
import { blockSize } from './schema.ts'

/** One broken rule, and one row that breaks it. */
export interface Finding {
  readonly rule: string
  readonly place: string
}

const isDir = 'mode & 61440 = 16384' // S_IFMT, S_IFDIR

/** Rule → query whose rows break it; the first column names the place. */
const rules: readonly (readonly [rule: string, query: string])[] = [
  ['an entry names an inode that exists', 'SELECT parent FROM dentries d WHERE NOT EXISTS (SELECT 1 FROM inodes i WHERE i.ino = d.ino)'],
  ['an entry lies in a directory that has a name', `SELECT parent FROM dentries d WHERE NOT EXISTS (SELECT 1 FROM inodes i WHERE i.ino = d.parent AND i.${isDir} AND i.nlink > 0)`],
  ['an entry has the type of its inode', 'SELECT d.parent FROM dentries d JOIN inodes i ON i.ino = d.ino WHERE d.type <> i.mode >> 12'],
  ['nlink of a file counts its entries', `SELECT i.ino FROM inodes i LEFT JOIN (SELECT ino, count(*) AS n FROM dentries GROUP BY ino) d ON d.ino = i.ino WHERE NOT (${isDir}) AND i.nlink <> coalesce(d.n, 0)`],
  ['nlink of a directory is 2 and its subdirectories', `SELECT ino FROM inodes i WHERE ${isDir} AND nlink > 0 AND nlink <> 2 + (SELECT count(*) FROM dentries d WHERE d.parent = i.ino AND d.type = 4)`],
  ['a directory has one entry, in its parent', `SELECT i.ino FROM inodes i WHERE ${isDir} AND nlink > 0 AND ino NOT IN (SELECT root FROM volumes) AND NOT EXISTS (SELECT 1 FROM dentries d WHERE d.parent = i.parent AND d.ino = i.ino)`],
  ['an inode without names is an orphan', 'SELECT ino FROM inodes WHERE nlink = 0 AND ino NOT IN (SELECT ino FROM orphans)'],
  ['an orphan is an inode without names', 'SELECT ino FROM orphans WHERE ino NOT IN (SELECT ino FROM inodes WHERE nlink = 0)'],
  ['an inode number is below the next one', 'SELECT ino FROM inodes WHERE ino >= (SELECT next_ino FROM state)'],
  ['state counts the inodes', 'SELECT inodes FROM state WHERE inodes <> (SELECT count(*) FROM inodes)'],
  ['an extent belongs to an inode', 'SELECT ino FROM extents WHERE ino NOT IN (SELECT ino FROM inodes)'],
  ['an extent lies within its chunk', 'SELECT e.ino FROM extents e LEFT JOIN chunks c ON c.id = e.chunk WHERE c.id IS NULL OR e.chunk_offset < 0 OR e.length < 1 OR e.chunk_offset + e.length > c.size'],
  ['an extent lies within a block', `SELECT ino FROM extents WHERE offset / ${String(blockSize)} <> (offset + length - 1) / ${String(blockSize)}`],
  ['an extent lies within its file', 'SELECT e.ino FROM extents e JOIN inodes i ON i.ino = e.ino WHERE e.offset + e.length > i.size'],
  ['extents do not overlap', 'SELECT ino FROM (SELECT ino, offset, lag(offset + length) OVER (PARTITION BY ino ORDER BY offset) AS before FROM extents) WHERE before > offset'],
  ['stored counts the bytes of the extents', 'SELECT ino FROM inodes i WHERE stored <> (SELECT coalesce(sum(length), 0) FROM extents e WHERE e.ino = i.ino)'],
  ['refs counts the extents of a chunk', 'SELECT c.id FROM chunks c LEFT JOIN (SELECT chunk, count(*) AS n FROM extents GROUP BY chunk) e ON e.chunk = c.id WHERE c.refs <> coalesce(e.n, 0) OR c.refs < 1'],
  ['a chunk has its data', 'SELECT id FROM chunks WHERE id NOT IN (SELECT id FROM chunk_data) UNION ALL SELECT id FROM chunk_data WHERE id NOT IN (SELECT id FROM chunks)'],
  ['an attribute belongs to an inode', 'SELECT ino FROM xattrs WHERE ino NOT IN (SELECT ino FROM inodes)'],
  ['a symlink has a target', 'SELECT ino FROM inodes WHERE (mode & 61440 = 40960) <> (target IS NOT NULL)'],
] // prettier-ignore

/** How many rows of one rule are reported. */
const placesPerRule = 5

/**
 * Checks a volume file that nobody is writing to, its WAL included. With `deep`, every chunk against its address.
 * Returns what is wrong, empty when nothing is. Throws ENOENT; EIO when the file cannot be read at all.
 */
export function checkVolume(file: string, { deep = false }: { readonly deep?: boolean } = {}): Finding[] {
  if (!existsSync(file)) throw new ErrnoError('ENOENT', `volume file ${file}: does not exist`)
  return translating(file, () => {
    const connection = new Database(file, { fileMustExist: true }) // a read-only connection would leave a -wal behind
    try {
      connection.pragma('query_only = ON')
      return [...checkStructure(connection), ...checkRules(connection), ...(deep ? checkChunks(connection) : [])]
    } finally {
      connection.close()
    }
  })
}

function checkStructure(connection: Connection): Finding[] {
  const lines = connection.prepare<[], string>('PRAGMA integrity_check').pluck(true).all()
  return lines.filter((line) => line !== 'ok').map((place) => ({ rule: 'the SQLite file is intact', place }))
}

function checkRules(connection: Connection): Finding[] {
  return rules.flatMap(([rule, query]) => {
    const places = connection
      .prepare<[], unknown>(`${query} LIMIT ${String(placesPerRule)}`)
      .pluck(true)
      .all()
    return places.map((place) => ({ rule, place: String(place) }))
  })
}

function checkChunks(connection: Connection): Finding[] {
  const select = connection
    .prepare<[], Row>('SELECT c.id, c.size, c.address, d.codec, d.data FROM chunks c JOIN chunk_data d ON d.id = c.id')
    .raw(true)
  const findings: Finding[] = []
  for (const row of select.iterate()) {
    const id = integer(row, 0, 'chunks', 'id')
    if (!isChunkIntact(id, row)) findings.push({ rule: 'a chunk has the content that its address names', place: String(id) })
  }
  return findings
}

function isChunkIntact(id: number, row: Row): boolean {
  const encoded = { codec: integer(row, 3, 'chunk_data', 'codec'), data: bytes(row, 4, 'chunk_data', 'data') }
  try {
    const content = decodeChunk(id, encoded, integer(row, 1, 'chunks', 'size'))
    return chunkAddress(content).equals(bytes(row, 2, 'chunks', 'address'))
  } catch {
    return false
  }
}
