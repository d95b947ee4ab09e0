/**
 * Table `extents`: which bytes of a file are which bytes of a chunk.
 * Keeps: extents of a file do not overlap; none crosses a multiple of `blockSize`; each one holds one ref of its chunk.
 * Leaves: sizes and times to content.ts, the bytes to chunks.ts.
 */
import { ErrnoError, type Ino } from '../base/index.ts'
import type { Chunks } from './chunks.ts'
import type { Connection, Statement } from './connection.ts'
import { integer, type Row } from './rows.ts'
import { blockSize } from './schema.ts'

/** A row of extents. */
export interface Extent {
  readonly offset: number
  readonly length: number
  readonly chunk: number
  readonly chunkOffset: number
}

/** What lseek(2) looks for. */
export type SeekTarget = 'data' | 'hole'

/**
 * Rows read in one step, so that a statement never returns a whole huge file. It stands in the SQL: SQLite parses a statement anew
 * each time that its LIMIT is bound (sqlite3ExprIsInteger of expr.c), and so it does where a column is `= ?` beside an ORDER BY, hence
 * the row values in ranges. Parsing takes 4 µs, finding a row 1.
 */
export const stepSize = 1024

const table = 'extents'

/** Which extents lie whole in a range: of an inode, from, before, up to. */
export const whole = 'ino = ? AND offset >= ? AND offset < ? AND offset + length <= ?'

function decode(row: Row): Extent {
  const [offset, length] = [integer(row, 0, table, 'offset'), integer(row, 1, table, 'length')]
  return { offset, length, chunk: integer(row, 2, table, 'chunk'), chunkOffset: integer(row, 3, table, 'chunk_offset') }
}

/** The start of the block that holds `offset`. */
export const blockStart = (offset: number): number => offset - (offset % blockSize)

/** The end of the block that holds `offset`: where the next one starts. */
export const blockEnd = (offset: number): number => blockStart(offset) + blockSize

export class Extents {
  readonly #chunks: Chunks
  readonly #range: Statement<[number, number, number, number], Row>
  readonly #step: Statement<[number, number, number, number], Row>
  readonly #insert: Statement<[number, number, number, number, number]>
  readonly #shorten: Statement<[number, number, number]>
  readonly #delete: Statement<[number, number]>
  readonly #repeat: Statement<[number, number, number, number, number, number]>
  readonly #sum: Statement<[number, number, number, number], Row>

  constructor(connection: Connection, chunks: Chunks) {
    this.#chunks = chunks
    const range =
      'SELECT offset, length, chunk, chunk_offset FROM extents WHERE (ino, offset) >= (?, ?) AND (ino, offset) < (?, ?) ORDER BY ino, offset'
    this.#range = connection.prepare<[number, number, number, number], Row>(range).raw(true)
    this.#step = connection.prepare<[number, number, number, number], Row>(`${range} LIMIT ${String(stepSize)}`).raw(true)
    this.#insert = connection.prepare('INSERT INTO extents (ino, offset, length, chunk, chunk_offset) VALUES (?, ?, ?, ?, ?)')
    this.#shorten = connection.prepare('UPDATE extents SET length = ? WHERE ino = ? AND offset = ?')
    this.#delete = connection.prepare('DELETE FROM extents WHERE ino = ? AND offset = ?')
    this.#repeat = connection.prepare(
      `INSERT INTO extents (ino, offset, length, chunk, chunk_offset) SELECT ?, offset + ?, length, chunk, chunk_offset FROM extents WHERE ${whole}`,
    )
    this.#sum = connection
      .prepare<[number, number, number, number], Row>(`SELECT coalesce(sum(length), 0) FROM extents WHERE ${whole}`)
      .raw(true)
  }

  /** The extents that overlap start … end, in order; the first and the last may reach beyond. */
  overlapping(ino: Ino, start: number, end: number): Extent[] {
    return this.inBlocks(ino, start, end).filter(({ offset, length }) => offset + length > start)
  }

  /** The extents from the start of the block of `start` to before `end`, in order. */
  inBlocks(ino: Ino, start: number, end: number): Extent[] {
    return this.#range.all(ino, blockStart(start), ino, end).map(decode)
  }

  /** All extents of start … end in order, read in steps: the first and the last may reach beyond. Change none while going through them. */
  *each(ino: Ino, start: number, end: number): Generator<Extent> {
    yield* this.overlapping(ino, start, Math.min(end, blockEnd(start)))
    for (let at = blockEnd(start); at < end;) {
      const step = this.#next(ino, at, end)
      yield* step
      const last = step.at(-1)
      if (last === undefined) return
      at = last.offset + 1
    }
  }

  /** Adds an extent for a chunk whose ref the caller already holds. Call inside a transaction, with the range free. */
  insert(ino: Ino, { offset, length, chunk, chunkOffset }: Extent): void {
    this.#insert.run(ino, offset, length, chunk, chunkOffset)
  }

  /**
   * Adds to `to` the extents that lie whole in start … end of `from`, `shift` bytes further: a multiple of `blockSize`, so that none has to
   * be cut. Returns their bytes. Call inside a transaction, with the range free.
   */
  repeat(to: Ino, from: Ino, start: number, end: number, shift: number): number {
    const sum = this.#sum.get(from, start, end, end)
    const { changes } = this.#repeat.run(to, shift, from, start, end, end)
    this.#chunks.retainAll(from, start, end, changes)
    return sum === undefined ? 0 : integer(sum, 0, table, 'length')
  }

  /** Frees start … end of the file, however much: what lay there becomes a hole. Returns how many bytes were stored there. Call inside a transaction. */
  clear(ino: Ino, start: number, end: number): number {
    let freed = this.clearOf(ino, this.overlapping(ino, start, Math.min(end, blockEnd(start))), start, end)
    for (;;) {
      const step = this.#next(ino, blockEnd(start), end)
      if (step.length === 0) return freed
      freed += this.clearOf(ino, step, start, end)
    }
  }

  /**
   * The same where the extents there are known already; those of `extents` that lie elsewhere are left alone.
   * The last one goes first: SQLite takes the pages that were freed last, and so those of the next file lie in order from front to end.
   * Freed in order they were taken in reverse, and a disk reads backwards a page at a time: a sixth of the speed.
   */
  clearOf(ino: Ino, extents: readonly Extent[], start: number, end: number): number {
    let freed = 0
    for (const extent of extents.toReversed()) {
      if (extent.offset < end && extent.offset + extent.length > start) freed += this.#cut(ino, extent, start, end)
    }
    return freed
  }

  /** Removes up to `stepSize` extents of an inode that is going; returns how many, and the bytes freed. Call inside a transaction. */
  removeSome(ino: Ino): { readonly removed: number; readonly freed: number } {
    const extents = this.#next(ino, 0, Number.MAX_SAFE_INTEGER)
    const freed = extents.reduceRight((sum, extent) => sum + this.#remove(ino, extent), 0) // as clearOf
    return { removed: extents.length, freed }
  }

  #next(ino: Ino, start: number, end: number): Extent[] {
    return this.#step.all(ino, start, ino, end).map(decode)
  }

  /** Takes start … end out of one extent, keeping what lies before and after; returns the bytes taken. */
  #cut(ino: Ino, extent: Extent, start: number, end: number): number {
    const { offset, length, chunk, chunkOffset } = extent
    const extentEnd = offset + length
    const taken = Math.min(end, extentEnd) - Math.max(start, offset)
    if (offset >= start && extentEnd <= end) return this.#remove(ino, extent)
    if (extentEnd > end) {
      this.#chunks.retain(chunk)
      this.#insertAfter(ino, { offset: end, length: extentEnd - end, chunk, chunkOffset: chunkOffset + end - offset }, extent, start)
    }
    if (offset < start) this.#shorten.run(start - offset, ino, offset)
    return taken
  }

  /** Adds the rest behind a cut; the cut extent itself goes first when nothing of it stays in front. */
  #insertAfter(ino: Ino, rest: Extent, cut: Extent, start: number): void {
    if (cut.offset >= start) this.#remove(ino, cut)
    this.insert(ino, rest)
  }

  #remove(ino: Ino, { offset, length, chunk }: Extent): number {
    this.#delete.run(ino, offset)
    this.#chunks.release(chunk)
    return length
  }
}

/** The first offset from `offset` on that is stored, or is in a hole; the end of the file is a hole. Throws ENXIO when there is none. */
export function seekExtents(extents: Extents, { ino, size }: { ino: Ino; size: number }, offset: number, target: SeekTarget): number {
  let hole = offset
  for (const extent of offset < size ? extents.each(ino, offset, size) : []) {
    if (target === 'data') return Math.max(offset, extent.offset)
    if (extent.offset > hole) break
    hole = extent.offset + extent.length
  }
  if (target === 'data' || offset >= size) throw new ErrnoError('ENXIO', `inode ${String(ino)}: no ${target} from ${String(offset)} on`)
  return hole
}
