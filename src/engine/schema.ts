/**
 * The stored form: every table of a volume file, and the migrations that lead to it.
 * Keeps: migrations only grow; docs/format.md says the same in prose, byte by byte.
 * Leaves: reading and writing rows to the module of each table.
 */
import { runPragma } from './pragmas.ts'

/** `PRAGMA application_id` of every volume file: "LtVl" in ASCII. */
export const applicationId = 0x4c74566c

/**
 * Page size in bytes of new volume files; others, as those of earlier builds with 8192, keep theirs. A commit writes whole pages, most of
 * which it changes by a few bytes: with 8 KiB large files are stored faster, by up to a fifth, but what changes little makes the WAL longer,
 * and one that is too long breaks off exports that are read slowly (docs/performance.md).
 */
export const pageSize = 4096

/**
 * Files are cut at multiples of this many bytes; no extent and no chunk is longer (format.md). Power of two.
 * 128 KiB: measured best of 4 KiB to 1 MiB for hashing and inserting through better-sqlite3 (design, section 6).
 */
export const blockSize = 131072

/**
 * Chunks are stored in pieces of this many bytes: a read proves and copies the pieces that it needs. A divisor of `blockSize`.
 * Of 128 KiB in one row, 4 KiB at random cost 98 µs (docs/performance.md).
 */
export const pieceSize = 16384

/** How many pieces a chunk can have; the number of a piece is its chunk's times this, and which one it is. */
export const piecesPerChunk = blockSize / pieceSize

/** The lowest inode number: 1 is what FUSE calls the root of any volume, so no inode has it. */
export const firstIno = 2

const version1 = `
-- One row: what changed last, and what names the committed bytes.
CREATE TABLE state (
  id          INTEGER PRIMARY KEY CHECK (id = 1),
  change      INTEGER NOT NULL, -- committed changes that a user can see, so far
  change_sec  INTEGER NOT NULL, -- time of the last of them: seconds since the epoch
  change_usec INTEGER NOT NULL, -- and microseconds; strictly later than that of the one before
  commits     INTEGER NOT NULL, -- transactions so far, housekeeping included
  epoch       BLOB NOT NULL,    -- 8 random bytes, drawn anew by each opening that writes: (epoch, commits) names the bytes
  next_ino    INTEGER NOT NULL, -- the next inode number; never goes down, so none is reused
  inodes      INTEGER NOT NULL  -- rows of inodes (derived, for statfs)
) STRICT;

-- One tree; the manager keeps one per file.
CREATE TABLE volumes (
  id          INTEGER PRIMARY KEY,
  uuid        BLOB NOT NULL UNIQUE, -- 16 bytes, UUIDv7
  root        INTEGER NOT NULL UNIQUE, -- ino of the root directory
  created_sec INTEGER NOT NULL  -- seconds since the epoch
) STRICT;

-- One row: an identity. nlink counts dentries (for directories: 2 + subdirectories; 0 once removed).
CREATE TABLE inodes (
  ino        INTEGER PRIMARY KEY,
  volume     INTEGER NOT NULL,
  uuid       BLOB NOT NULL,    -- 16 bytes, UUIDv7
  mode       INTEGER NOT NULL, -- st_mode: type and permission bits
  nlink      INTEGER NOT NULL,
  uid        INTEGER NOT NULL,
  gid        INTEGER NOT NULL,
  rdev       INTEGER NOT NULL, -- st_rdev of devices, else 0
  size       INTEGER NOT NULL, -- bytes: of a file its length, of a symlink its target's; 0 otherwise
  stored     INTEGER NOT NULL, -- bytes in extents (derived, for st_blocks)
  parent     INTEGER NOT NULL, -- of a directory: its parent's ino; otherwise a directory that had a dentry for it (hint)
  atime      INTEGER NOT NULL, atime_nsec INTEGER NOT NULL, -- seconds since the epoch, may be negative; 0 to 999999999
  mtime      INTEGER NOT NULL, mtime_nsec INTEGER NOT NULL,
  ctime      INTEGER NOT NULL, ctime_nsec INTEGER NOT NULL,
  btime      INTEGER NOT NULL, btime_nsec INTEGER NOT NULL,
  target     BLOB              -- of a symlink: where it points; NULL otherwise
) STRICT;

-- One row: a name in a directory. The cookie orders a listing and is never that of another entry of the directory.
CREATE TABLE dentries (
  parent INTEGER NOT NULL,
  cookie INTEGER NOT NULL, -- from 3; 1 and 2 stand for . and ..
  name   BLOB NOT NULL,    -- 1 to 255 bytes, any but NUL and slash
  ino    INTEGER NOT NULL,
  type   INTEGER NOT NULL, -- mode >> 12 of the inode
  PRIMARY KEY (parent, cookie)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX dentries_by_name ON dentries (parent, name);

-- One row: bytes offset … offset + length of a file are bytes chunk_offset … of a chunk. Ranges without a row are holes.
-- Extents of a file do not overlap, and none crosses a multiple of 131072.
CREATE TABLE extents (
  ino          INTEGER NOT NULL,
  offset       INTEGER NOT NULL,
  length       INTEGER NOT NULL,
  chunk        INTEGER NOT NULL,
  chunk_offset INTEGER NOT NULL,
  PRIMARY KEY (ino, offset)
) STRICT, WITHOUT ROWID;

-- One row: a distinct piece of content. refs equals the number of extents that name it; at 0 the row goes.
CREATE TABLE chunks (
  id      INTEGER PRIMARY KEY,
  address BLOB NOT NULL UNIQUE, -- of codec 0: SHA-256 of the bytes
  size    INTEGER NOT NULL,     -- bytes before encoding, 1 to 131072
  refs    INTEGER NOT NULL
) STRICT;

-- The bytes of a chunk, apart from its counters so that counting rewrites no content.
CREATE TABLE chunk_data (
  id    INTEGER PRIMARY KEY,
  codec INTEGER NOT NULL, -- 0: the bytes as they are
  data  BLOB NOT NULL
) STRICT;

CREATE TABLE xattrs (
  ino   INTEGER NOT NULL,
  name  BLOB NOT NULL, -- 1 to 255 bytes
  value BLOB NOT NULL, -- up to 65536 bytes
  PRIMARY KEY (ino, name)
) STRICT, WITHOUT ROWID;

-- Inodes without a name whose rows wait: removed at forget, at unmount, or by the next opening.
CREATE TABLE orphans (
  ino INTEGER PRIMARY KEY
) STRICT;
`

/**
 * What a successor of a killed FUSE process must know: which request was committed last, since it may not have been answered.
 * And a checksum by which a read sees that stored bytes have changed: CRC-32 takes a third of the time of the address's SHA-256.
 */
const version2 = `
ALTER TABLE state ADD COLUMN connection  INTEGER NOT NULL DEFAULT 0; -- FUSE connection whose request was committed last: a random number
ALTER TABLE state ADD COLUMN request     INTEGER NOT NULL DEFAULT 0; -- that request's number (unique of fuse_in_header)
ALTER TABLE state ADD COLUMN request_ino INTEGER NOT NULL DEFAULT 0; -- the inode that its answer names, or 0
ALTER TABLE chunks ADD COLUMN crc INTEGER; -- CRC-32 (ISO 3309, as in zlib) of the bytes before encoding; NULL in chunks of version 1
UPDATE state SET commits = commits + 1, epoch = randomblob(8); -- the bytes have changed, so their name must
`

const pieces = `
-- One row: a piece of a chunk's bytes. A chunk has its bytes here or, from version 1 or 2, whole in chunk_data; chunks.crc is NULL here.
CREATE TABLE pieces (
  id    INTEGER PRIMARY KEY, -- chunk * 8 + the number of the piece, from 0
  codec INTEGER NOT NULL, -- 0: the bytes as they are
  crc   INTEGER NOT NULL, -- CRC-32, begun with id, of the bytes before encoding: 16384 of them, of the last piece what is left
  data  BLOB NOT NULL
) STRICT;
`

/** Content in pieces. What older versions have stored stays in chunk_data until it goes: to move it would be to write the file anew. */
const version3 = `${pieces}
UPDATE state SET commits = commits + 1, epoch = randomblob(8);
`

/**
 * Chunks that are changed in their place: such a one has 8 bytes in place of an address, its id, big-endian. And pieces.crc is signed now,
 * which is the same modulo 2^32. There is nothing to move, but a version 3 would take such a chunk for damaged.
 */
const version4 = `
UPDATE state SET commits = commits + 1, epoch = randomblob(8);
`

/** Migration N leads from user_version N to N + 1. Released ones are never changed. */
const migrations: readonly string[] = [version1, version2, version3, version4]

/** The `user_version` that this code reads and writes. */
export const schemaVersion = migrations.length

/** What `migrate` needs of a connection. */
interface Migratable {
  exec(sql: string): unknown
}

/** Brings the tables from `version` (0: an empty file) to `target`. Call inside a transaction. */
export function migrate(connection: Migratable, version: number, target = schemaVersion): void {
  for (const migration of migrations.slice(version, target)) connection.exec(migration)
  runPragma(connection, `user_version = ${String(target)}`)
}

/** Lets what reads the newest tables read a file of an older `version`: a table that came later is an empty one of this connection. */
export function addMissingTables(connection: Migratable, version: number): void {
  if (version < 3) connection.exec(pieces.replace('CREATE TABLE', 'CREATE TEMP TABLE'))
}
