/**
 * Table `state`: what changed last (promise 5), what names the committed bytes (promise 4), the next inode number, and which
 *   request was committed last (promise 2).
 * Keeps: every transaction advances `commits`, every visible one `change` and its time; nothing else does.
 *   The numbers in memory are those of the last commit, or of the open transaction.
 * Leaves: beginning and ending transactions to volume.ts.
 */
import { randomBytes } from 'node:crypto'
import { ErrnoError, now, type Ino, type Timestamp } from '../base/index.ts'
import type { Connection, Statement } from './connection.ts'
import { bytes, integer, type Row } from './rows.ts'

/** Promise 5's pair and the name of the bytes. */
export interface StateSummary {
  readonly change: number
  readonly mtime: Timestamp
  /** Equal iff the checkpointed files would be equal byte for byte. */
  readonly bytesTag: string
}

interface Values {
  change: number
  sec: number
  usec: number
  commits: number
  epoch: Buffer
  nextIno: number
  inodes: number
}

/** A committed request of a FUSE connection: its number, and the inode that its answer names (0: none). */
export interface CommittedRequest {
  readonly number: number
  readonly ino: number
}

/** The request that is served, and of which FUSE connection it is. */
interface Request {
  readonly connection: number
  number: number
  ino: number
}

const columns = 'change, change_sec, change_usec, commits, epoch, next_ino, inodes'

function decode(row: Row | undefined): Values {
  if (row === undefined) throw new ErrnoError('EIO', 'table state: its row is missing')
  return {
    change: integer(row, 0, 'state', 'change'),
    sec: integer(row, 1, 'state', 'change_sec'),
    usec: integer(row, 2, 'state', 'change_usec'),
    commits: integer(row, 3, 'state', 'commits'),
    epoch: bytes(row, 4, 'state', 'epoch'),
    nextIno: integer(row, 5, 'state', 'next_ino'),
    inodes: integer(row, 6, 'state', 'inodes'),
  }
}

/** Prepares the reading of the state on a connection; each call of the result reads it as committed then. */
export function prepareStateReader(connection: Connection): () => StateSummary {
  const select = connection.prepare<[], Row>(`SELECT ${columns} FROM state WHERE id = 1`).raw(true)
  return () => {
    const { change, sec, usec, epoch, commits } = decode(select.get())
    return { change, mtime: { sec, nsec: usec * 1000 }, bytesTag: `${epoch.toString('hex')}-${String(commits)}` }
  }
}

/** The state as the one writer keeps it. */
export class State {
  readonly #select: Statement<[], Row>
  readonly #update: Statement<unknown[]>
  readonly #sessionEpoch = randomBytes(8)
  readonly #selectRequest: Statement<[], Row>
  readonly #values: Values
  readonly #committed: Values
  readonly #request: Request
  /** What a predecessor on the same FUSE connection has committed last. */
  #inherited: Request

  /** `fuseConnection` names the FUSE connection whose requests are served, 0 when there is none. */
  constructor(connection: Connection, fuseConnection: number) {
    this.#select = connection.prepare<[], Row>(`SELECT ${columns} FROM state WHERE id = 1`).raw(true)
    this.#update = connection.prepare(
      `UPDATE state SET change = ?, change_sec = ?, change_usec = ?, commits = ?, epoch = ?, next_ino = ?, inodes = ?,
         connection = ?, request = ?, request_ino = ? WHERE id = 1`,
    )
    this.#selectRequest = connection.prepare<[], Row>('SELECT connection, request, request_ino FROM state WHERE id = 1').raw(true)
    this.#values = decode(this.#select.get())
    this.#request = { connection: fuseConnection, number: 0, ino: 0 }
    this.#inherited = decodeRequest(this.#selectRequest.get())
    this.#committed = { ...this.#values }
  }

  /** Goes on with what another process has committed last. */
  reload(): void {
    Object.assign(this.#values, decode(this.#select.get()))
    Object.assign(this.#committed, this.#values)
    this.#inherited = decodeRequest(this.#selectRequest.get())
  }

  /** The number of the last commit. */
  get commits(): number {
    return this.#committed.commits
  }

  /** Rows of inodes. */
  get inodes(): number {
    return this.#values.inodes
  }

  /** The request of that number is served from now on; what it commits carries the number. */
  beginRequest(number: number): void {
    this.#request.number = number
    this.#request.ino = 0
  }

  /** The answer of the request in hand names this inode. Call inside a transaction. */
  nameAnswer(ino: Ino): void {
    this.#request.ino = ino
  }

  /** What a predecessor on the same FUSE connection has committed last, as it was when the volume was opened or resumed. */
  get inheritedRequest(): CommittedRequest | undefined {
    const { connection, number, ino } = this.#inherited
    return connection === this.#request.connection && connection !== 0 ? { number, ino } : undefined
  }

  /** What `takeIno` returns next. */
  get nextIno(): number {
    return this.#values.nextIno
  }

  /** Takes the next inode number. Call inside a transaction. */
  takeIno(): Ino {
    this.#values.inodes++
    return this.#values.nextIno++ as Ino
  }

  /** One inode row is gone. Call inside a transaction. */
  dropInode(): void {
    this.#values.inodes--
  }

  /** Writes the row at the end of a transaction; `isVisible` says whether a user can see what it changed. */
  advance(isVisible: boolean): void {
    const v = this.#values
    v.commits++
    v.epoch = this.#sessionEpoch
    if (isVisible) {
      v.change++
      this.#advanceTime()
    }
    const { connection, number, ino } = this.#request
    this.#update.run(v.change, v.sec, v.usec, v.commits, v.epoch, v.nextIno, v.inodes, connection, number, ino)
  }

  /** The transaction is committed. */
  committed(): void {
    Object.assign(this.#committed, this.#values)
  }

  /** The transaction was rolled back. */
  rolledBack(): void {
    Object.assign(this.#values, this.#committed)
  }

  /** The clock's time, or a microsecond after the last change where the clock does not advance. */
  #advanceTime(): void {
    const v = this.#values
    const { sec, nsec } = now()
    const usec = Math.floor(nsec / 1000)
    if (sec > v.sec || (sec === v.sec && usec > v.usec)) {
      v.sec = sec
      v.usec = usec
    } else if (++v.usec === 1_000_000) {
      v.sec++
      v.usec = 0
    }
  }
}

function decodeRequest(row: Row | undefined): Request {
  if (row === undefined) throw new ErrnoError('EIO', 'table state: its row is missing')
  const value = (index: number, column: string): number => integer(row, index, 'state', column)
  return { connection: value(0, 'connection'), number: value(1, 'request'), ino: value(2, 'request_ino') }
}
