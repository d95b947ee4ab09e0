/**
 * SQLite connections on volume files: opening, pragmas with their reasons, error codes.
 * Keeps: a file that is no volume, or a newer one, is refused by name before anything of it is changed.
 * Leaves: tables to their modules, ownership of the file to owner.ts.
 */
import Database from 'better-sqlite3'
import { accessSync, constants, existsSync, lstatSync } from 'node:fs'
import { dirname } from 'node:path'
import { ErrnoError, messageOf, systemCode, type ErrnoCode } from '../base/index.ts'
import { readPragma, runPragma } from './pragmas.ts'
import { applicationId, schemaVersion } from './schema.ts'

export type Connection = Database.Database
/** A prepared statement with its bound values and its row as an array. */
export type Statement<Bind extends unknown[], Row = unknown> = Database.Statement<Bind, Row>

// better-sqlite3 takes SQLite's URI names, which inspection.ts needs, only when this is set before its first connection.
process.env['SQLITE_USE_URI'] = '1'

/** How long SQLite waits for a lock of our own other connection (a checkpoint, a snapshot's begin), in ms; it is held for moments. */
const busyTimeoutMs = 30_000

/** SQLite's page cache of the connection that serves (cache-size.ts), and of those beside it, in KiB: index pages of some million files, and next to nothing. */
export const servingCacheKib = 24_576
const besideCacheKib = 1024

/**
 * Opens a connection on an existing volume file and sets its pragmas.
 * Call as the file's owner. Throws ENOENT; EROFS, EACCES when it cannot be written; EIO naming the file when it is no volume,
 * damaged, or newer than this code.
 */
export function openConnection(file: string, use: 'serving' | 'beside' = 'beside'): Connection {
  assertOpenable(file)
  if (!existsSync(file)) throw new ErrnoError('ENOENT', `volume file ${file}: does not exist`)
  assertWritable(file)
  return translating(file, () => {
    const connection = new Database(file, { fileMustExist: true, timeout: busyTimeoutMs })
    try {
      assertVolume(connection, file)
      setPragmas(connection, use)
      return connection
    } catch (error) {
      connection.close()
      throw error
    }
  })
}

/** Runs `work` while SQLite waits for a lock `ms` at most, instead of as long as our connections do. */
export function withBusyTimeout<T>(connection: Connection, ms: number, work: () => T): T {
  runPragma(connection, `busy_timeout = ${String(ms)}`)
  try {
    return work()
  } finally {
    runPragma(connection, `busy_timeout = ${String(busyTimeoutMs)}`)
  }
}

/** Throws EINVAL for a path that better-sqlite3 would take for that of another file, and for a symbolic link. */
export function assertOpenable(file: string): void {
  if (lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() === true) {
    throw new ErrnoError('EINVAL', `volume file ${file}: is a symbolic link, and SQLite keeps the WAL beside its target`, {
      hint: 'name the target',
    })
  }
  if (file.startsWith('file:'))
    throw new ErrnoError('EINVAL', `volume file ${file}: SQLite takes such a name for a URI`, { hint: 'name its whole path' })
  if (file === file.trim()) return
  throw new ErrnoError('EINVAL', `volume file ${JSON.stringify(file)}: its path ends or begins with white space`, { hint: 'rename it' })
}

/** SQLite keeps the WAL and its index beside the file, to read it as well: a volume that is mounted read-only must be writable too. */
function assertWritable(file: string): void {
  try {
    for (const path of [file, dirname(file)]) accessSync(path, constants.W_OK)
  } catch (cause) {
    const isFilesystem = systemCode(cause) === 'EROFS'
    const fault = isFilesystem ? 'lies on a read-only filesystem' : 'it or its folder may not be written'
    const hint = 'SQLite writes beside the file even to read it: copy it to where it can be written'
    throw new ErrnoError(isFilesystem ? 'EROFS' : 'EACCES', `volume file ${file}: ${fault}`, { hint, cause })
  }
}

/** Every pragma that a connection needs, with its reason. */
export function setPragmas(connection: Connection, use: 'serving' | 'beside'): void {
  runPragma(connection, 'journal_mode = WAL') // readers (snapshots, stat) beside the one writer
  runPragma(connection, 'synchronous = NORMAL') // a commit is in the WAL; fsync(2) puts the WAL on the disk (Volume.sync)
  runPragma(connection, 'wal_autocheckpoint = 0') // the request path never checkpoints; Maintenance does
  runPragma(connection, `cache_size = -${String(use === 'serving' ? servingCacheKib : besideCacheKib)}`)
  runPragma(connection, 'temp_store = MEMORY') // no file beside the volume
  runPragma(connection, 'trusted_schema = OFF') // a volume may come from a stranger
  runPragma(connection, 'cell_size_check = ON') // damage is found where it is read
}

/** Refuses what is not a volume of this version, or an older one. Reads only. Throws EIO `not_a_volume`, `newer_format`. */
export function assertVolume(connection: Connection, file: string): void {
  const id = readPragma(connection, 'application_id')
  if (id !== applicationId)
    throw new ErrnoError('EIO', `volume file ${file}: it is an SQLite file but not a litevol volume`, { problem: 'not_a_volume' })
  const version = readPragma(connection, 'user_version')
  if (version < 1) throw new ErrnoError('EIO', `volume file ${file}: format version ${String(version)} is damaged`)
  if (version <= schemaVersion) return
  const message = `volume file ${file}: format version ${String(version)} is newer than this litevol, which knows ${String(schemaVersion)}`
  throw new ErrnoError('EIO', message, { hint: 'use the litevol that made it, or a newer one', problem: 'newer_format' })
}

const codeBySqlite: readonly (readonly [prefix: string, code: ErrnoCode])[] = [
  ['SQLITE_FULL', 'ENOSPC'],
  ['SQLITE_IOERR_SHMSIZE', 'ENOSPC'], // the -shm cannot grow: a disk without 32 KiB of room
  ['SQLITE_BUSY', 'EBUSY'],
  ['SQLITE_LOCKED', 'EBUSY'],
  ['SQLITE_READONLY', 'EROFS'],
  ['SQLITE_CANTOPEN', 'EACCES'],
  ['SQLITE_TOOBIG', 'EFBIG'],
]

/** Turns what SQLite or Node threw into an ErrnoError about `file`; an ErrnoError passes untouched. */
export function translateError(file: string, error: unknown): Error {
  if (error instanceof ErrnoError) return error
  if (error instanceof Database.SqliteError) {
    const code = codeBySqlite.find(([prefix]) => error.code.startsWith(prefix))?.[1] ?? 'EIO'
    return new ErrnoError(code, `volume file ${file}: ${error.message} (${error.code})`, { cause: error })
  }
  const code = systemCode(error)
  if (code === 'ENOSPC' || code === 'EDQUOT') return new ErrnoError(code, `volume file ${file}: ${messageOf(error)}`, { cause: error })
  return error instanceof Error ? error : new Error(String(error))
}

/** Runs `work`, translating what it throws. */
export function translating<T>(file: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw translateError(file, error)
  }
}
