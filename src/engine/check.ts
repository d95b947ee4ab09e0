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
import { maximumFileSize } from './content.ts'
import { bytes, integer, type Row } from './rows.ts'
import { blockSize } from './schema.ts'

/** One broken rule, and one row that breaks it. */
export interface Finding {
  readonly rule: string
  readonly place: string
}

const isDir = 'mode & 61440 = 16384' // S_IFMT, S_IFDIR
const types = '4096, 8192, 16384, 24576, 32768, 40960, 49152' // S_IFIFO, S_IFCHR, S_IFDIR, S_IFBLK, S_IFREG, S_IFLNK, S_IFSOCK

/** The directories that a walk from the roots finds: a cycle has entries and link counts like any other, but nobody comes there. */
const reached =
  'WITH RECURSIVE reached (ino) AS (SELECT root FROM volumes UNION SELECT d.ino FROM reached r JOIN dentries d ON d.parent = r.ino WHERE d.type = 4)'

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
  ['there is one state', 'SELECT count(*) FROM state HAVING count(*) <> 1'],
  ['there is a volume', 'SELECT count(*) FROM volumes HAVING count(*) = 0'],
  ['the root of a volume is a directory, its own parent', `SELECT root FROM volumes WHERE root NOT IN (SELECT ino FROM inodes WHERE ${isDir} AND nlink > 0 AND parent = ino)`],
  ['an inode belongs to a volume', 'SELECT ino FROM inodes WHERE volume NOT IN (SELECT id FROM volumes)'],
  ['a mode is a type and permissions', `SELECT ino FROM inodes WHERE mode & 61440 NOT IN (${types}) OR mode <> mode & 65535`],
  ['only a device has a device number', 'SELECT ino FROM inodes WHERE rdev <> 0 AND mode & 61440 NOT IN (8192, 24576)'],
  ['a size is that of its type', `SELECT ino FROM inodes WHERE CASE mode & 61440 WHEN 32768 THEN size NOT BETWEEN 0 AND ${String(maximumFileSize)} WHEN 40960 THEN size <> length(target) OR size NOT BETWEEN 1 AND 4095 ELSE size <> 0 END`],
  ['a time has less than a second of nanoseconds', 'SELECT ino FROM inodes WHERE max(atime_nsec, mtime_nsec, ctime_nsec, btime_nsec) > 999999999 OR min(atime_nsec, mtime_nsec, ctime_nsec, btime_nsec) < 0'],
  ['a directory has no second entry', 'SELECT ino FROM dentries WHERE type = 4 GROUP BY ino HAVING count(*) > 1'],
  ['a directory is reached from a root', `${reached} SELECT ino FROM inodes WHERE ${isDir} AND nlink > 0 AND ino NOT IN (SELECT ino FROM reached)`],
  ['a name has 1 to 255 bytes, no NUL, no slash, and is not . or ..', "SELECT parent FROM dentries WHERE length(name) NOT BETWEEN 1 AND 255 OR instr(name, x'00') OR instr(name, x'2f') OR name IN (x'2e', x'2e2e')"],
  ['a cookie is 3 or more', 'SELECT parent FROM dentries WHERE cookie < 3'],
  ['an extent belongs to a regular file', 'SELECT e.ino FROM extents e JOIN inodes i ON i.ino = e.ino WHERE i.mode & 61440 <> 32768 OR e.offset < 0'],
  ['a chunk has 1 to 131072 bytes and an address of 32', `SELECT c.id FROM chunks c JOIN chunk_data d ON d.id = c.id WHERE c.size NOT BETWEEN 1 AND ${String(blockSize)} OR length(c.address) <> 32 OR (d.codec = 0 AND length(d.data) <> c.size)`],
  ['an attribute has a name of 1 to 255 bytes and a value of at most 65536', 'SELECT ino FROM xattrs WHERE length(name) NOT BETWEEN 1 AND 255 OR length(value) > 65536'],
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
