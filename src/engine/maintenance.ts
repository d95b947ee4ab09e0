/**
 * What goes on beside the serving of an open volume, on connections of its own: state, checkpoints, snapshots, paths.
 * Keeps: no writer waits longer than for a checkpoint's last step; what a snapshot names stays readable while it is held:
 *   the newest of its WAL frames for a page, else the page of the main file.
 * Leaves: reading those bytes to manager/snapshot-bytes.ts, deciding when to checkpoint to the FUSE process.
 */
import { closeSync, fdatasyncSync, openSync, statSync } from 'node:fs'
import { ErrnoError, type Ino } from '../base/index.ts'
import { prepareCheckpoint, type CheckpointAnswer, type CheckpointMode } from './checkpoint.ts'
import { Chunks } from './chunks.ts'
import { openConnection, translating, withBusyTimeout, type Connection, type Statement } from './connection.ts'
import { Dentries } from './dentries.ts'
import { Extents, seekExtents, type SeekTarget } from './extents.ts'
import { bringFreelistIntoMemory } from './freelist-memory.ts'
import { lostSyncError, ownLostSync, type LostSync } from './lost-sync.ts'
import { preparePragma, readPragma } from './pragmas.ts'
import { integer, type Row } from './rows.ts'
import { schemaVersion } from './schema.ts'
import { freeBytes } from './space.ts'
import { prepareStateReader, type StateSummary } from './state.ts'
import { bringIntoMemory, isInMemory } from './wal-memory.ts'
import { WriteGate } from './write-gate.ts'

/** A held snapshot: enough to read its bytes from FILE and FILE-wal. */
export interface Snapshot {
  readonly pageSize: number
  readonly pageCount: number
  /** The first so many frames of the WAL belong to it; 0: the main file alone. */
  readonly walFrames: number
  readonly bytesTag: string
  /** Ends the read transaction: the bytes may change from now on. */
  readonly release: () => void
}

/** What a checkpoint did. */
export interface CheckpointResult {
  readonly framesCheckpointed: number
  readonly framesRemaining: number
}

/** WAL bytes past which writers wait for a checkpoint's last step, so that the WAL starts anew: overwriting it costs half of extending it. */
export const walRestartBytes = 64 << 20

/** Uncopied bytes that a restart of the WAL may leave to its last step: some milliseconds. */
const lastStepBytes = 1 << 20

/** How long that step may wait for who reads the WAL or writes, in ms: nobody can write meanwhile. */
const lastStepTimeoutMs = 500

/** Passes before that; each copies what was written during the one before, a third to a half of that one. */
const mostPasses = 6

const slash = Buffer.from('/')

const joinPath = (parent: Buffer, name: Buffer): Buffer => (parent.length === 0 ? name : Buffer.concat([parent, slash, name]))

/** A directory, and a name in it. */
interface Place {
  readonly parent: Ino
  readonly name: Buffer
}

/** A connection that holds a snapshot, or is to. */
interface Reader {
  readonly connection: Connection
  readonly readState: () => StateSummary
  readonly pageCount: () => number
}

/** The tables of content, as the control thread looks at them. */
interface ContentTables {
  readonly extents: Extents
  readonly chunks: Chunks
}

export class Maintenance {
  /** Of this file, in bytes. */
  readonly pageSize: number
  readonly #file: string
  readonly #lostSync: LostSync
  readonly #checkpointer: Connection
  readonly #checkpoints: Readonly<Record<CheckpointMode, () => CheckpointAnswer>>
  readonly #pageCount: () => number
  readonly #gate: WriteGate
  /** Takes the write lock for a moment, to stand still while a snapshot begins; it writes nothing. */
  readonly #locker: Connection
  readonly #readState: () => StateSummary
  readonly #dentries: Dentries
  /** Made when it is first needed: in a file of an older version, which Volume.open raises, it would find no table of pieces. */
  #tables: ContentTables | undefined
  readonly #selectParent: Statement<[number], Row>
  readonly #selectSize: Statement<[number], Row>
  /** The volume file and its WAL, for syncing what SQLite will find synced. */
  #fileDescriptor: number | undefined
  #walDescriptor: number | undefined
  readonly #snapshots = new Set<Reader>()
  /** One that holds nothing, kept for the next snapshot: each connection leaves objects that the garbage collector is slow to find. */
  #idle: Reader | undefined

  /** Call in the process that owns the file, with the `lostSync` and the `gate` of its Volume. */
  constructor(file: string, lostSync = ownLostSync(), gate = new WriteGate()) {
    this.#file = file
    this.#lostSync = lostSync
    this.#gate = gate
    const checkpointer = openConnection(file)
    this.#checkpointer = checkpointer
    const prepared = (mode: CheckpointMode): (() => CheckpointAnswer) => prepareCheckpoint(checkpointer, mode, lostSync)
    this.#checkpoints = {
      NOOP: prepared('NOOP'),
      PASSIVE: prepared('PASSIVE'),
      RESTART: prepared('RESTART'),
      TRUNCATE: prepared('TRUNCATE'),
    }
    this.#pageCount = preparePragma(checkpointer, 'page_count')
    this.#locker = openConnection(file)
    this.pageSize = readPragma(checkpointer, 'page_size')
    this.#readState = prepareStateReader(this.#checkpointer)
    this.#dentries = new Dentries(this.#checkpointer)
    this.#selectSize = this.#checkpointer.prepare<[number], Row>('SELECT size FROM inodes WHERE ino = ?').raw(true)
    this.#selectParent = this.#checkpointer.prepare<[number], Row>('SELECT parent FROM inodes WHERE ino = ?').raw(true)
  }

  /** Whether the file has the present format; opening it to serve it raises an older one. */
  get isCurrent(): boolean {
    return readPragma(this.#checkpointer, 'user_version') === schemaVersion
  }

  /** Ends all snapshots and closes; call before the volume itself is closed, so that it is the last and removes the WAL. */
  close(): void {
    for (const reader of this.#snapshots) reader.connection.close()
    this.#snapshots.clear()
    this.#idle?.connection.close()
    this.#locker.close()
    this.#checkpointer.close()
    if (this.#walDescriptor !== undefined) closeSync(this.#walDescriptor)
    this.#walDescriptor = undefined
  }

  /** The state as committed now, and the bytes the file has when checkpointed. */
  state(): StateSummary & { readonly sizeBytes: number } {
    return translating(this.#file, () => ({ ...this.#readState(), sizeBytes: this.#pageCount() * this.pageSize }))
  }

  /** As Volume.seek, by what is committed now. Throws ENXIO, ESTALE. */
  seek(ino: Ino, offset: number, target: SeekTarget): number {
    return translating(this.#file, () => {
      const row = this.#selectSize.get(ino)
      if (row === undefined) throw new ErrnoError('ESTALE', `inode ${String(ino)}: does not exist`, { context: { ino } })
      return seekExtents(this.#content.extents, { ino, size: integer(row, 0, 'inodes', 'size') }, offset, target)
    })
  }

  /** Has the disk bring what is stored of a range, for who will read it soon: not its proof, nor its bytes. */
  prefetch(ino: Ino, offset: number, length: number): void {
    translating(this.#file, () => {
      const { extents, chunks } = this.#content
      for (const extent of extents.overlapping(ino, offset, offset + length)) chunks.prefetch(extent.chunk)
    })
  }

  get #content(): ContentTables {
    if (this.#tables === undefined) {
      const chunks = new Chunks(this.#checkpointer)
      this.#tables = { chunks, extents: new Extents(this.#checkpointer, chunks) }
    }
    return this.#tables
  }

  /** The path of the WAL file. */
  get wal(): string {
    return `${this.#file}-wal`
  }

  /** Bytes of the WAL file; after a restart of the WAL, its old frames are counted too. */
  walBytes(): number {
    return statSync(this.wal, { throwIfNoEntry: false })?.size ?? 0
  }

  /** Whether most of the WAL file is in memory, as far as can be said in about `withinMs`. */
  isWalInMemory(withinMs: number): boolean {
    return isInMemory(this.wal, withinMs)
  }

  /** Reads what of the WAL file is not in memory, for who will write over it, as far as it gets in about `withinMs`. */
  bringWalIntoMemory(withinMs: number): void {
    bringIntoMemory(this.wal, withinMs)
  }

  /** Reads the lists of the next `bytes` of free pages, for who will write there, as far as it gets in about `withinMs`. Returns how many. */
  bringFreelistIntoMemory(bytes: number, withinMs: number): number {
    try {
      return bringFreelistIntoMemory(this.#openFile(), this.pageSize, { bytes, withinMs })
    } catch {
      return 0 // whoever needs what cannot be read is told so
    }
  }

  /** Has the disk write what the WAL has by now: whoever syncs next waits for little. Nobody who writes waits for it. Throws EIO. */
  syncWal(): void {
    this.#walDescriptor ??= openSync(this.wal, 'r')
    try {
      fdatasyncSync(this.#walDescriptor)
    } catch (error) {
      this.#lostSync.set()
      throw lostSyncError(this.#file, error)
    }
  }

  /** Bytes that the disk has free. */
  diskBytes(): number {
    return freeBytes(this.#file)
  }

  /** How many snapshots are held. */
  get snapshots(): number {
    return this.#snapshots.size
  }

  /** Copies WAL frames into the main file without making anyone wait; frames that a snapshot needs stay. */
  checkpoint(): CheckpointResult {
    return this.#checkpoint('PASSIVE')
  }

  /** How many frames of the WAL are copied and how many are not; copies none. */
  walFrames(): CheckpointResult {
    return this.#checkpoint('NOOP')
  }

  /**
   * Has the next writer start the WAL anew; it keeps its disk space. Writers wait for the last step, so all that can be is done before.
   * Returns false where that step waited in vain, most likely for another SQLite that reads the file: the WAL goes on growing then.
   */
  restartWal(): boolean {
    this.#catchUp()
    this.#syncFile()
    this.#catchUp() // what was written meanwhile
    return this.#lastStep('RESTART')
  }

  /** Waits for the transaction under way, keeps the next one waiting, and for whoever reads the WAL only as long as that may be. */
  #lastStep(mode: 'RESTART' | 'TRUNCATE'): boolean {
    return withBusyTimeout(this.#checkpointer, lastStepTimeoutMs, () => this.#gate.closed(() => !this.#checkpoint(mode).isBusy))
  }

  /** Copies until little is left beside one who goes on writing. */
  #catchUp(): void {
    for (let pass = 0; pass < mostPasses && this.walFrames().framesRemaining * this.pageSize > lastStepBytes; pass++) this.checkpoint()
  }

  /**
   * Has the disk write what was copied: the last step of a checkpoint waits for that. A failure is SQLite's to find: it is reported to each
   * descriptor.
   */
  #syncFile(): void {
    try {
      fdatasyncSync(this.#openFile())
    } catch {
      // as said above
    }
  }

  /** It stays open: closing it would drop every lock of this process on the file (close of fcntl(2), POSIX). */
  #openFile(): number {
    return (this.#fileDescriptor ??= openSync(this.#file, 'r'))
  }

  /** The same as `checkpoint`, then waits for writers for a moment to copy the rest and empty the WAL; with snapshots held, as far as they allow. */
  truncateWal(): CheckpointResult {
    const passive = this.#checkpoint('PASSIVE')
    if (this.#snapshots.size > 0) return passive
    this.#lastStep('TRUNCATE') // reports 0 and 0 when it could: hence the counting before
    const { framesRemaining } = this.walFrames()
    const copied = passive.framesCheckpointed + passive.framesRemaining - framesRemaining
    return { framesCheckpointed: Math.max(copied, passive.framesCheckpointed), framesRemaining }
  }

  /**
   * Holds everything committed so far. Writers stand still between two of their transactions while it begins:
   * the WAL's length read then is exactly where the read transaction ends.
   */
  acquireSnapshot(): Snapshot {
    return translating(this.#file, () => {
      this.#checkpointIfRoom()
      const reader = this.#takeReader()
      try {
        return this.#gate.closed(() => this.#begin(reader))
      } catch (error) {
        reader.connection.close()
        throw error
      }
    })
  }

  /**
   * Few frames then need to be read from the WAL. The snapshot will keep a long WAL from starting anew, and with snapshots one after
   * the other it never would: it does so before. A disk without room for it keeps nobody from reading.
   */
  #checkpointIfRoom(): void {
    try {
      const { framesCheckpointed, framesRemaining } = this.checkpoint()
      if (this.#snapshots.size === 0 && (framesCheckpointed + framesRemaining) * this.pageSize > walRestartBytes) this.restartWal()
    } catch (error) {
      if (!(error instanceof ErrnoError) || error.code !== 'ENOSPC') throw error
    }
  }

  #takeReader(): Reader {
    const idle = this.#idle
    this.#idle = undefined
    if (idle !== undefined) return idle
    const connection = openConnection(this.#file)
    return { connection, readState: prepareStateReader(connection), pageCount: preparePragma(connection, 'page_count') }
  }

  #begin(reader: Reader): Snapshot {
    const { connection, readState, pageCount } = reader
    this.#locker.exec('BEGIN IMMEDIATE')
    try {
      const { framesCheckpointed, framesRemaining } = this.#checkpoint('NOOP')
      connection.exec('BEGIN')
      const { bytesTag } = readState()
      // All frames copied: SQLite reads such a snapshot from the main file alone, and the WAL may be overwritten.
      const walFrames = framesRemaining === 0 ? 0 : framesCheckpointed + framesRemaining
      const pages = pageCount()
      this.#snapshots.add(reader)
      return { pageSize: this.pageSize, pageCount: pages, walFrames, bytesTag, release: () => { this.#release(reader) } } // prettier-ignore
    } finally {
      this.#locker.exec('ROLLBACK')
    }
  }

  #release(reader: Reader): void {
    if (!this.#snapshots.delete(reader)) return
    try {
      reader.connection.exec('ROLLBACK')
    } finally {
      if (this.#idle === undefined && !reader.connection.inTransaction) this.#idle = reader
      else reader.connection.close()
    }
  }

  /** Paths of the inodes from the volume's root, as bytes without a leading slash; one without a name is left out. */
  paths(inos: readonly Ino[], root: Ino): Buffer[] {
    return translating(this.#file, () => {
      const near = this.#locateNear(inos)
      const known = new Map<Ino, Buffer | undefined>([[root, Buffer.alloc(0)]])
      return inos.map((ino) => this.#path(ino, near, known)).filter((path) => path !== undefined)
    })
  }

  /** Where the inodes lie, as far as the hints are right: one pass over each directory, however many of its files are asked for. */
  #locateNear(inos: readonly Ino[]): Map<Ino, Place> {
    const wanted = new Map<Ino, Set<Ino>>()
    for (const ino of inos) {
      const parent = this.#hint(ino)
      if (parent !== undefined) wanted.set(parent, (wanted.get(parent) ?? new Set()).add(ino))
    }
    const found = new Map<Ino, Place>()
    for (const [parent, files] of wanted) {
      this.#dentries.list(parent, 0, ({ ino, name }) => {
        if (files.delete(ino)) found.set(ino, { parent, name })
        return files.size > 0
      })
    }
    return found
  }

  /** The path of one inode; `known` keeps those of its directories for the next. */
  #path(ino: Ino, near: ReadonlyMap<Ino, Place>, known: Map<Ino, Buffer | undefined>): Buffer | undefined {
    if (known.has(ino)) return known.get(ino)
    const hint = this.#hint(ino)
    const place = near.get(ino) ?? (hint === undefined ? undefined : this.#dentries.locate(ino, hint))
    const parent = place === undefined ? undefined : this.#path(place.parent, near, known)
    const path = place === undefined || parent === undefined ? undefined : joinPath(parent, place.name)
    known.set(ino, path)
    return path
  }

  /** The directory that an inode was last known in. */
  #hint(ino: Ino): Ino | undefined {
    const row = this.#selectParent.get(ino)
    return row === undefined ? undefined : (integer(row, 0, 'inodes', 'parent') as Ino)
  }

  #checkpoint(mode: CheckpointMode): CheckpointResult & { readonly isBusy: boolean } {
    const answer = translating(this.#file, this.#checkpoints[mode])
    const [frames, framesCheckpointed] = [Math.max(0, answer.frames), Math.max(0, answer.framesCheckpointed)] // -1 without a WAL
    return { framesCheckpointed, framesRemaining: frames - framesCheckpointed, isBusy: answer.isBusy }
  }
}
