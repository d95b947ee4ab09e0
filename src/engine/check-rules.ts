/**
 * The rules of a consistent volume (docs/design.md, invariants), each one query over its tables.
 * Keeps: a query's rows are what breaks its rule; it reads the tables of the newest format version.
 * Leaves: running them and finding paths to check.ts, the content of chunks to its deep part.
 */
import { NAME_MAX } from '../base/index.ts'
import { maximumFileSize } from './content.ts'
import { blockSize, firstIno, pieceSize, piecesPerChunk } from './schema.ts'

/** What a query's columns are: `ino`; `parent, name`; the id of a chunk; or words that name the place themselves. */
export type RowKind = 'inode' | 'entry' | 'chunk' | 'words'

export interface Rule {
  /** What is so in a sound volume. */
  readonly rule: string
  readonly kind: RowKind
  readonly query: string
}

const isDir = 'mode & 61440 = 16384' // S_IFMT, S_IFDIR
const isFile = 'mode & 61440 = 32768' // S_IFREG
const isLink = 'mode & 61440 = 40960' // S_IFLNK
const types = '1, 2, 4, 6, 8, 10, 12' // mode >> 12: fifo, character device, directory, block device, file, symlink, socket
const text = (number: number): string => String(number)
const all = (kind: RowKind, rows: readonly (readonly [string, string])[]): Rule[] => rows.map(([rule, query]) => ({ rule, kind, query }))

const ofState = all('words', [
  ['there is one state', "SELECT 'table state' WHERE (SELECT count(*) FROM state) <> 1"],
  ['there is a volume', "SELECT 'table volumes' WHERE NOT EXISTS (SELECT 1 FROM volumes)"],
  ['state counts the inodes', "SELECT 'table state: inodes is ', inodes FROM state WHERE inodes <> (SELECT count(*) FROM inodes)"],
  ['the epoch has 8 bytes', "SELECT 'table state' FROM state WHERE length(epoch) <> 8"],
]) // prettier-ignore

const ofInodes = all('inode', [
  ['the root of a volume is a directory, its own parent', `SELECT root FROM volumes WHERE root NOT IN (SELECT ino FROM inodes WHERE ${isDir} AND nlink > 0 AND parent = ino)`],
  ['an inode belongs to a volume', 'SELECT ino FROM inodes WHERE volume NOT IN (SELECT id FROM volumes)'],
  ['numbers of an inode are in their ranges', `SELECT ino FROM inodes WHERE ino < ${text(firstIno)} OR ino > ${text(Number.MAX_SAFE_INTEGER)} OR nlink < 0 OR uid NOT BETWEEN 0 AND 4294967295 OR gid NOT BETWEEN 0 AND 4294967295 OR rdev NOT BETWEEN 0 AND 4294967295 OR length(uuid) <> 16`],
  ['a mode is a type and permissions', `SELECT ino FROM inodes WHERE mode >> 12 NOT IN (${types})`],
  ['only a device has a device number', 'SELECT ino FROM inodes WHERE rdev <> 0 AND mode >> 12 NOT IN (2, 6)'],
  ['a size is that of its type', `SELECT ino FROM inodes WHERE CASE mode >> 12 WHEN 8 THEN size NOT BETWEEN 0 AND ${text(maximumFileSize)} WHEN 10 THEN size <> length(target) OR size NOT BETWEEN 1 AND 4095 ELSE size <> 0 END`],
  ['a time has less than a second of nanoseconds', 'SELECT ino FROM inodes WHERE max(atime_nsec, mtime_nsec, ctime_nsec, btime_nsec) > 999999999 OR min(atime_nsec, mtime_nsec, ctime_nsec, btime_nsec) < 0'],
  ['nlink of a file counts its entries', `SELECT i.ino FROM inodes i LEFT JOIN (SELECT ino, count(*) AS n FROM dentries GROUP BY ino) d ON d.ino = i.ino WHERE NOT (${isDir}) AND i.nlink <> coalesce(d.n, 0)`],
  ['nlink of a directory is 2 and its subdirectories', `SELECT ino FROM inodes i WHERE ${isDir} AND nlink > 0 AND nlink <> 2 + (SELECT count(*) FROM dentries d WHERE d.parent = i.ino AND d.type = 4)`],
  ['a directory has one entry, in its parent', `SELECT i.ino FROM inodes i WHERE ${isDir} AND nlink > 0 AND ino NOT IN (SELECT root FROM volumes) AND NOT EXISTS (SELECT 1 FROM dentries d WHERE d.parent = i.parent AND d.ino = i.ino)`],
  ['a directory has no second entry', 'SELECT ino FROM dentries WHERE type = 4 GROUP BY ino HAVING count(*) > 1'],
  ['the root has no entry', 'SELECT root FROM volumes WHERE root IN (SELECT ino FROM dentries)'],
  ['a directory is reached from a root', `WITH RECURSIVE tree(ino) AS (SELECT root FROM volumes UNION SELECT d.ino FROM tree JOIN dentries d ON d.parent = tree.ino AND d.type = 4) SELECT ino FROM inodes WHERE ${isDir} AND nlink > 0 AND ino NOT IN tree`],
  ['an inode without names is an orphan', 'SELECT ino FROM inodes WHERE nlink = 0 AND ino NOT IN (SELECT ino FROM orphans)'],
  ['an orphan is an inode without names', 'SELECT ino FROM orphans WHERE ino NOT IN (SELECT ino FROM inodes WHERE nlink = 0)'],
  ['an inode number is below the next one', 'SELECT ino FROM inodes WHERE ino >= (SELECT next_ino FROM state)'],
  ['an extent belongs to a regular file', `SELECT ino FROM extents WHERE ino NOT IN (SELECT ino FROM inodes WHERE ${isFile})`],
  ['an extent lies within its chunk', 'SELECT e.ino FROM extents e LEFT JOIN chunks c ON c.id = e.chunk WHERE c.id IS NULL OR e.chunk_offset < 0 OR e.length < 1 OR e.chunk_offset + e.length > c.size'],
  ['an extent lies within a block', `SELECT ino FROM extents WHERE offset < 0 OR offset / ${text(blockSize)} <> (offset + length - 1) / ${text(blockSize)}`],
  ['an extent lies within its file', 'SELECT e.ino FROM extents e JOIN inodes i ON i.ino = e.ino WHERE e.offset + e.length > i.size'],
  ['extents do not overlap', 'SELECT ino FROM (SELECT ino, offset, lag(offset + length) OVER (PARTITION BY ino ORDER BY offset) AS before FROM extents) WHERE before > offset'],
  ['stored counts the bytes of the extents', 'SELECT ino FROM inodes i WHERE stored <> (SELECT coalesce(sum(length), 0) FROM extents e WHERE e.ino = i.ino)'],
  ['an attribute belongs to an inode', 'SELECT ino FROM xattrs WHERE ino NOT IN (SELECT ino FROM inodes)'],
  ['an attribute has a name of 1 to 255 bytes and a value of at most 65536', `SELECT ino FROM xattrs WHERE length(name) NOT BETWEEN 1 AND ${text(NAME_MAX)} OR instr(name, x'00') > 0 OR length(value) > 65536`],
  ['a symlink has a target', `SELECT ino FROM inodes WHERE (${isLink}) <> (target IS NOT NULL)`],
  ['a target has no NUL', "SELECT ino FROM inodes WHERE instr(target, x'00') > 0"],
]) // prettier-ignore

const ofEntries = all('entry', [
  ['an entry names an inode that exists', 'SELECT parent, name FROM dentries d WHERE NOT EXISTS (SELECT 1 FROM inodes i WHERE i.ino = d.ino)'],
  ['an entry lies in a directory that has a name', `SELECT parent, name FROM dentries d WHERE NOT EXISTS (SELECT 1 FROM inodes i WHERE i.ino = d.parent AND i.${isDir} AND i.nlink > 0)`],
  ['an entry has the type of its inode', 'SELECT d.parent, d.name FROM dentries d JOIN inodes i ON i.ino = d.ino WHERE d.type <> i.mode >> 12'],
  ['a name has 1 to 255 bytes, no NUL, no slash, and is not . or ..', `SELECT parent, name FROM dentries WHERE length(name) NOT BETWEEN 1 AND ${text(NAME_MAX)} OR instr(name, x'00') > 0 OR instr(name, x'2f') > 0 OR name IN (x'2e', x'2e2e')`],
  ['a cookie is 3 or more', `SELECT parent, name FROM dentries WHERE cookie NOT BETWEEN 3 AND ${text(Number.MAX_SAFE_INTEGER)}`],
]) // prettier-ignore

const ofChunks = all('chunk', [
  ['refs counts the extents of a chunk', 'SELECT c.id FROM chunks c LEFT JOIN (SELECT chunk, count(*) AS n FROM extents GROUP BY chunk) e ON e.chunk = c.id WHERE c.refs <> coalesce(e.n, 0) OR c.refs < 1'],
  ['a chunk has its data', `SELECT id FROM chunks WHERE id NOT IN (SELECT id FROM chunk_data) AND id NOT IN (SELECT id / ${text(piecesPerChunk)} FROM pieces) UNION ALL SELECT id FROM chunk_data WHERE id NOT IN (SELECT id FROM chunks) UNION ALL SELECT id / ${text(piecesPerChunk)} FROM pieces WHERE id / ${text(piecesPerChunk)} NOT IN (SELECT id FROM chunks)`],
  ['a chunk has its data in pieces or whole', `SELECT id FROM chunk_data WHERE id IN (SELECT id / ${text(piecesPerChunk)} FROM pieces)`],
  ['the pieces of a chunk are all there', `SELECT c.id FROM chunks c JOIN (SELECT id / ${text(piecesPerChunk)} AS chunk, count(*) AS n FROM pieces GROUP BY 1) p ON p.chunk = c.id WHERE p.n <> (c.size + ${text(pieceSize - 1)}) / ${text(pieceSize)}`],
  ['a piece has the bytes of its place', `SELECT c.id FROM pieces p JOIN chunks c ON c.id = p.id / ${text(piecesPerChunk)} WHERE (p.codec = 0 AND length(p.data) <> min(${text(pieceSize)}, c.size - p.id % ${text(piecesPerChunk)} * ${text(pieceSize)})) OR length(p.data) > ${text(2 * pieceSize)}`],
  ['a chunk has 1 to 131072 bytes and an address of 32, or of 8: its id', `SELECT id FROM chunks WHERE size NOT BETWEEN 1 AND ${text(blockSize)} OR (length(address) <> 32 AND (hex(address) <> printf('%016X', id) OR id IN (SELECT id FROM chunk_data)))`],
  ['stored bytes are those of one chunk', `SELECT d.id FROM chunk_data d JOIN chunks c ON c.id = d.id WHERE (codec = 0 AND length(data) <> size) OR length(data) > ${text(2 * blockSize)}`],
]) // prettier-ignore

/** Whatever a later one takes for granted is proven by an earlier one. */
export const rules: readonly Rule[] = [...ofState, ...ofInodes, ...ofEntries, ...ofChunks]
