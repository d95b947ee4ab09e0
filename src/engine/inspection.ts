/**
 * Looking at a volume file without changing it, or what lies beside it.
 * Keeps: FILE and FILE-wal stay as they are byte for byte, and no file is left beside them; what is seen is one committed state.
 * Leaves: keeping owners away to owner.ts, what is looked at to check.ts.
 */
import Database from 'better-sqlite3'
import { existsSync, rmSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { ErrnoError } from '../base/index.ts'
import { assertOpenable, assertVolume, translating, type Connection } from './connection.ts'
import { isAlone } from './file-length.ts'
import { runPragma } from './pragmas.ts'

/** SQLite's page cache while a file is gone through, in KiB. */
const cacheKib = 65_536

/**
 * Runs `work` on a connection that can only read, inside one read transaction. The file may be of any version up to ours, and a stranger's.
 * Unless `isLive` nobody may write to the file meanwhile: then no lock is taken and nothing is made beside it, unless a crash left a WAL.
 * With `isLive` this is one reader more of a file in use, whose WAL cannot shrink until it is done.
 * Throws ENOENT, EINVAL, EROFS, and EIO naming the file when it is no volume or newer than this code.
 */
export function inspect<T>(file: string, { isLive = false }: { readonly isLive?: boolean }, work: (connection: Connection) => T): T {
  assertOpenable(file)
  if (!existsSync(file)) throw new ErrnoError('ENOENT', `volume file ${file}: does not exist`)
  const isWhole = !isLive && isAlone(file)
  const hasIndex = existsSync(`${file}-shm`)
  return translating(file, () => {
    const connection = new Database(nameOf(file, isWhole), { readonly: true })
    try {
      if (!isWhole) assertReadable(connection, file)
      setReadingPragmas(connection)
      assertVolume(connection, file)
      connection.exec('BEGIN') // one state for all that is read; closing ends it
      return work(connection)
    } finally {
      connection.close()
      if (!isWhole && !isLive && !hasIndex) rmSync(`${file}-shm`, { force: true }) // the index of the WAL, which every opening builds anew
    }
  })
}

/** `immutable` has SQLite look at nothing but the one file, which is right only when no WAL belongs to it and nobody writes. */
function nameOf(file: string, isWhole: boolean): string {
  return isWhole ? `${pathToFileURL(resolve(file)).href}?immutable=1` : file
}

/** Fails where SQLite cannot make the index of the WAL (a read-only file system). */
function assertReadable(connection: Connection, file: string): void {
  try {
    connection.prepare('SELECT count(*) FROM sqlite_schema').get()
  } catch (error) {
    if (!(error instanceof Database.SqliteError) || !/^SQLITE_(CANTOPEN|READONLY)/.test(error.code)) throw error
    const hint = 'copy both files to where one can write, and take the copy'
    throw new ErrnoError('EROFS', `volume file ${file}: its -wal cannot be read where nothing can be written`, { cause: error, hint })
  }
}

function setReadingPragmas(connection: Connection): void {
  runPragma(connection, 'trusted_schema = OFF') // the file may come from a stranger
  runPragma(connection, 'cell_size_check = ON') // damage is found where it is read
  runPragma(connection, 'temp_store = MEMORY') // no file beside the volume
  runPragma(connection, `cache_size = -${String(cacheKib)}`)
}
