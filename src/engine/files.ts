/**
 * Volume files as a whole, while nothing serves them: making, settling, looking at the state.
 * Keeps: a made file is whole and on the disk, or not there; a settled one is a single file; looking changes nothing.
 * Leaves: serving to volume.ts.
 */
import Database from 'better-sqlite3'
import { closeSync, existsSync, fsyncSync, openSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { ErrnoError, S_IFDIR, now, systemCode, uuidv7, type Ino } from '../base/index.ts'
import { assertOpenable, openConnection, setPragmas, translating, type Connection } from './connection.ts'
import { assertLength } from './file-length.ts'
import { Inodes } from './inodes.ts'
import { Owner } from './owner.ts'
import { readPragma, runPragma } from './pragmas.ts'
import { applicationId, firstIno, migrate, pageSize } from './schema.ts'
import { State, prepareStateReader, type StateSummary } from './state.ts'
import { Volume } from './volume.ts'

/** The root directory of a new volume. */
export interface VolumeFileOptions {
  /** Default 0. */
  readonly uid?: number
  /** Default 0. */
  readonly gid?: number
  /** Permission bits, default 0755. */
  readonly mode?: number
}

/** Makes a new volume file, readable by its owner only. Throws EEXIST, ENOENT (no such folder), ENOSPC. */
export function createVolumeFile(file: string, options: VolumeFileOptions = {}): void {
  closeSync(openExclusively(file))
  try {
    translating(file, () => {
      writeVolume(file, options)
      syncPath(file)
      syncPath(dirname(file))
    })
  } catch (error) {
    for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(file + suffix, { force: true })
    throw error
  }
}

function openExclusively(file: string): number {
  assertOpenable(file)
  try {
    return openSync(file, 'wx', 0o600)
  } catch (error) {
    const code = systemCode(error)
    if (code === 'EEXIST') throw new ErrnoError('EEXIST', `volume file ${file}: exists already`, { cause: error })
    if (code === 'ENOENT') throw new ErrnoError('ENOENT', `volume file ${file}: its folder does not exist`, { cause: error })
    if (code === 'ENOSPC') throw new ErrnoError('ENOSPC', `volume file ${file}: the disk is full`, { cause: error })
    throw new ErrnoError('EACCES', `volume file ${file}: cannot be created`, { cause: error })
  }
}

function writeVolume(file: string, options: VolumeFileOptions): void {
  const connection = new Database(file)
  try {
    runPragma(connection, `page_size = ${String(pageSize)}`)
    runPragma(connection, 'auto_vacuum = NONE') // freed pages are used again; the file never moves pages about
    connection.transaction(() => {
      fillVolume(connection, options)
    })()
    setPragmas(connection, 'beside')
    runPragma(connection, 'wal_checkpoint(TRUNCATE)')
  } finally {
    connection.close()
  }
}

function fillVolume(connection: Connection, { uid = 0, gid = 0, mode = 0o755 }: VolumeFileOptions): void {
  migrate(connection, 0)
  runPragma(connection, `application_id = ${String(applicationId)}`)
  const time = now()
  connection
    .prepare('INSERT INTO state (id, change, change_sec, change_usec, commits, epoch, next_ino, inodes) VALUES (1, 0, ?, ?, 0, ?, ?, 0)')
    .run(time.sec, Math.floor(time.nsec / 1000), Buffer.alloc(8), firstIno)
  const state = new State(connection, 0)
  const root = new Inodes(connection, state).insert({
    volume: 1,
    mode: S_IFDIR | (mode & 0o7777),
    nlink: 2,
    uid,
    gid,
    rdev: 0,
    size: 0,
    parent: firstIno as Ino,
    time,
    target: null,
  })
  connection.prepare('INSERT INTO volumes (id, uuid, root, created_sec) VALUES (1, ?, ?, ?)').run(uuidv7(), root.ino, time.sec)
  state.advance(true)
}

function syncPath(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/**
 * Makes the file whole after a crash: recovers its WAL, collects orphans, checkpoints. A file without a -wal beside it is left as it is.
 * Waits up to `ownerTimeoutMs` for an owner that is finishing. Throws EBUSY, ENOENT, EIO.
 */
export async function settleVolumeFile(file: string, { ownerTimeoutMs }: { readonly ownerTimeoutMs: number }): Promise<void> {
  if (!existsSync(`${file}-wal`)) return
  const owner = await Owner.acquire(file, ownerTimeoutMs)
  try {
    assertLength(file)
    Volume.open(file).close()
  } finally {
    owner.release()
  }
}

/**
 * The state of a settled file that nobody serves. Opens it like any reader and leaves no file beside it.
 * Throws ENOENT, or EIO naming the file and its damage.
 */
export function readVolumeState(file: string): StateSummary & { readonly sizeBytes: number } {
  const connection = openConnection(file)
  try {
    return translating(file, () => {
      const [pages, pageBytes] = [readPragma(connection, 'page_count'), readPragma(connection, 'page_size')]
      return { ...prepareStateReader(connection)(), sizeBytes: pages * pageBytes }
    })
  } finally {
    connection.close()
  }
}
