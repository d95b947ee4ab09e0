/**
 * Tables `chunks`, `pieces` and, for what older versions stored, `chunk_data`: the pool, every distinct piece of content once.
 * Keeps: `refs` equals the number of extents that name the chunk; at 0 the chunk is gone at once, its pages reused;
 *   the bytes of a chunk that two extents name never change; where bytes have changed on the disk, a read is EIO, never wrong bytes.
 * Leaves: cutting to content.ts, the stored form to codec.ts.
 */
import { ErrnoError, type Ino } from '../base/index.ts'
import { damage, decodePiece, decodeWhole, encodePiece, namelessAddress, namelessLength, unlessDamaged } from './codec.ts'
import type { Connection, Statement } from './connection.ts'
import { Digests } from './digests.ts'
import { whole } from './extents.ts'
import { integer, type Row } from './rows.ts'
import { pieceSize, piecesPerChunk } from './schema.ts'

/** Decoded pieces kept for the next read: 128 of at most 16 KiB are 2 MiB. */
const cacheSize = 128

export class Chunks {
  readonly #digests: Digests
  readonly #upsert: Statement<[Buffer, number], Row>
  readonly #insertPiece: Statement<(number | Buffer)[]>
  readonly #insertPieces: Statement<(number | Buffer)[]>
  readonly #addRefs: Statement<[number, number]>
  readonly #addRefOfEach: Statement<[number, number, number, number]>
  readonly #addFurtherRefs: Statement<[number, number, number, number]>
  readonly #selectRefs: Statement<[number], Row>
  readonly #updatePiece: Statement<[number, number, Buffer, number]>
  readonly #rename: Statement<[Buffer, number]>
  readonly #delete: Statement<[number]>
  readonly #deletePiece: Statement<[number]>
  readonly #deletePieces: Statement<[number, number]>
  readonly #deleteData: Statement<[number]>
  readonly #selectPiece: Statement<[number], Row>
  readonly #selectIsPiece: Statement<[number]>
  readonly #selectPieces: Statement<[number, number], Row>
  readonly #selectEnds: Statement<[number, number]>
  readonly #selectData: Statement<[number], Row>
  /** By number, oldest first. */
  readonly #cache = new Map<number, Buffer>()

  constructor(connection: Connection, digests = new Digests()) {
    this.#digests = digests
    this.#upsert = connection
      .prepare<[Buffer, number], Row>(
        'INSERT INTO chunks (address, size, refs) VALUES (?, ?, 1) ON CONFLICT (address) DO UPDATE SET refs = refs + 1 RETURNING id, refs',
      )
      .raw(true)
    this.#insertPiece = connection.prepare('INSERT INTO pieces (id, codec, crc, data) VALUES (?, ?, ?, ?)')
    const values = Array.from({ length: piecesPerChunk }, () => '(?, ?, ?, ?)').join(', ')
    this.#insertPieces = connection.prepare(`INSERT INTO pieces (id, codec, crc, data) VALUES ${values}`) // 5 % less time than one by one
    this.#addRefs = connection.prepare('UPDATE chunks SET refs = refs + ? WHERE id = ?')
    this.#addRefOfEach = connection.prepare(`UPDATE chunks SET refs = refs + 1 WHERE id IN (SELECT chunk FROM extents WHERE ${whole})`)
    this.#addFurtherRefs = connection.prepare(
      `UPDATE chunks SET refs = refs + named.n - 1
         FROM (SELECT chunk, count(*) AS n FROM extents WHERE ${whole} GROUP BY chunk HAVING n > 1) AS named WHERE id = named.chunk`,
    )
    this.#selectRefs = connection.prepare<[number], Row>('SELECT refs, size, length(address) FROM chunks WHERE id = ?').raw(true)
    this.#updatePiece = connection.prepare('UPDATE pieces SET codec = ?, crc = ?, data = ? WHERE id = ?')
    this.#rename = connection.prepare('UPDATE chunks SET address = ? WHERE id = ?')
    this.#delete = connection.prepare('DELETE FROM chunks WHERE id = ?')
    this.#deletePiece = connection.prepare('DELETE FROM pieces WHERE id = ?')
    this.#deletePieces = connection.prepare('DELETE FROM pieces WHERE id >= ? AND id < ?')
    this.#deleteData = connection.prepare('DELETE FROM chunk_data WHERE id = ?')
    this.#selectPiece = connection.prepare<[number], Row>('SELECT codec, crc, data FROM pieces WHERE id = ?').raw(true)
    this.#selectIsPiece = connection.prepare('SELECT 1 FROM pieces WHERE id = ?')
    this.#selectPieces = connection
      .prepare<[number, number], Row>('SELECT codec, crc, data FROM pieces WHERE id >= ? AND id < ? ORDER BY id')
      .raw(true)
    this.#selectEnds = connection.prepare('SELECT substr(data, -1) FROM pieces WHERE id >= ? AND id < ?')
    this.#selectData = connection
      .prepare<[number], Row>(
        'SELECT c.size, d.codec, d.data, c.crc, c.address FROM chunks c JOIN chunk_data d ON d.id = c.id WHERE c.id = ?',
      )
      .raw(true)
  }

  /** Puts `content` (1 to 131072 bytes, not kept) into the pool and counts one ref; returns the chunk's id. Call inside a transaction. */
  put(content: Buffer): number {
    const row = this.#upsert.get(this.#digests.address(content), content.length)
    if (row === undefined) throw new ErrnoError('EIO', 'table chunks: an insertion returned no row')
    const id = integer(row, 0, 'chunks', 'id')
    if (integer(row, 1, 'chunks', 'refs') > 1) return id
    this.#insert(id, content, this.#digests.checksums(content))
    return id
  }

  /** Stores the pieces of a new chunk; `plain` are the plain checksums of each, where they are known. */
  #insert(chunk: number, content: Buffer, plain: readonly number[] = []): void {
    const rows = cutAtPieces(0, content).map(({ number, content: piece }) => {
      const id = chunk * piecesPerChunk + number
      const { codec, crc, data } = encodePiece(id, piece, plain[number])
      return [id, codec, crc, data]
    })
    if (rows.length === piecesPerChunk) this.#insertPieces.run(...rows.flat())
    else for (const row of rows) this.#insertPiece.run(...row)
  }

  /** Fills `into` with the bytes of a chunk from `offset` on. Throws EIO naming the chunk when it is missing, shorter or damaged. */
  read(id: number, offset: number, into: Buffer): void {
    const first = Math.floor(offset / pieceSize)
    const end = Math.ceil((offset + into.length) / pieceSize)
    const pieces = end - first > 1 ? this.#pieces(id, first, end) : [this.#piece(id, first)]
    let at = -(offset % pieceSize)
    for (const piece of pieces) {
      if (piece.length < Math.min(pieceSize, into.length - at)) throw damage(id, 'it has fewer bytes than an extent names')
      piece.copy(into, Math.max(at, 0), Math.max(-at, 0))
      at += pieceSize
      if (pieces.length > 1) freeMemory(piece)
    }
  }

  /**
   * Has a chunk that one extent names have `content` from `offset` on, in its place: that is half the pages that a new chunk takes.
   * No equal content finds the chunk from then on. Returns false, and changes nothing, when others name it, when an older version stored
   * it, and when it is damaged. Call inside a transaction.
   */
  overwrite(id: number, offset: number, content: Buffer): boolean {
    const row = this.#refs(id)
    const parts = cutAtPieces(offset, content)
    if (integer(row, 0, 'chunks', 'refs') > 1 || !parts.every((part) => this.#canOverwrite(id, part))) return false
    for (const part of parts) this.#overwritePiece(id, part)
    if (integer(row, 2, 'chunks', 'address') !== namelessLength) this.#rename.run(namelessAddress(id), id)
    return true
  }

  /** Has the disk bring the bytes of a chunk: SQLite goes through all pages of a piece to its last byte. */
  prefetch(id: number): void {
    this.#selectEnds.all(id * piecesPerChunk, (id + 1) * piecesPerChunk)
  }

  /** One more extent names the chunk. Call inside a transaction. */
  retain(id: number): void {
    this.#addRefs.run(1, id)
  }

  /**
   * One more extent names the chunk of each of the `count` that lie whole in start … end of a file. Most often each has its own: to count
   * how often it has takes as long as all the rest. Call inside a transaction.
   */
  retainAll(ino: Ino, start: number, end: number, count: number): void {
    const { changes } = this.#addRefOfEach.run(ino, start, end, end)
    if (changes < count) this.#addFurtherRefs.run(ino, start, end, end)
  }

  /** One extent less names the chunk; the last one takes it away. Call inside a transaction. */
  release(id: number): void {
    const row = this.#refs(id)
    if (integer(row, 0, 'chunks', 'refs') > 1) {
      this.#addRefs.run(-1, id)
      return
    }
    this.#delete.run(id)
    const first = id * piecesPerChunk
    const last = first + Math.ceil(integer(row, 1, 'chunks', 'size') / pieceSize) - 1
    for (let piece = last; piece > first; piece--) this.#deletePiece.run(piece) // the last one first, as clearOf of extents.ts
    if (this.#deletePieces.run(first, first + piecesPerChunk).changes === 0) this.#deleteData.run(id) // whatever its size says
    for (let piece = first; piece < first + piecesPerChunk; piece++) this.#forget(piece) // the id may be used again
  }

  /** Drops the cache: an id in it may come from a transaction that was rolled back. */
  rolledBack(): void {
    this.#cache.clear()
  }

  /** The row of a chunk: refs, its size, how long its address is. */
  #refs(id: number): Row {
    const row = this.#selectRefs.get(id)
    if (row === undefined) throw damage(id, 'an extent names it but the pool lacks it')
    return row
  }

  /** Whether the piece is there, which of an older version's chunk it is not, and the bytes beside the part are known. */
  #canOverwrite(chunk: number, { number, offset, content }: Part): boolean {
    if (this.#selectIsPiece.get(chunk * piecesPerChunk + number) === undefined) return false
    if (content.length === pieceSize) return true
    return unlessDamaged(() => {
      if (this.#piece(chunk, number).length < offset + content.length) throw damage(chunk, 'it has fewer bytes than an extent names')
    })
  }

  #overwritePiece(chunk: number, { number, offset, content }: Part): void {
    const id = chunk * piecesPerChunk + number
    let piece = content
    if (content.length === pieceSize) this.#forget(id)
    else content.copy((piece = this.#piece(chunk, number)), offset) // the one in the cache, which a rollback empties
    const { codec, crc, data } = encodePiece(id, piece)
    this.#updatePiece.run(codec, crc, data, id)
  }

  /** The bytes of a piece. The buffer is the pool's: do not change it, nor use it after the next call. */
  #piece(chunk: number, number: number): Buffer {
    const id = chunk * piecesPerChunk + number
    const known = this.#cache.get(id)
    if (known !== undefined) return known
    const row = this.#selectPiece.get(id)
    if (row === undefined) return this.#pieceOfOlder(chunk, number)
    const piece = decodePiece(id, row)
    this.#remember(id, piece)
    return piece
  }

  /** Several pieces, in one step and not kept: who reads on does not come back. The buffers are the caller's. */
  #pieces(chunk: number, first: number, end: number): Buffer[] {
    const id = chunk * piecesPerChunk + first
    const rows = this.#selectPieces.all(id, id + end - first)
    if (rows.length === end - first) return rows.map((row, index) => decodePiece(id + index, row))
    if (rows.length > 0) throw damage(chunk, 'a piece of it is missing')
    return Array.from({ length: end - first }, (_, index) => Buffer.from(this.#piece(chunk, first + index)))
  }

  /** The same of a chunk that version 1 or 2 has stored: it is read and proven whole, and all of it is kept for the next reads. */
  #pieceOfOlder(chunk: number, number: number): Buffer {
    const row = this.#selectData.get(chunk)
    if (row === undefined) throw damage(chunk, 'an extent names it but the pool lacks it')
    const content = decodeWhole(chunk, row)
    for (let at = 0; at < content.length; at += pieceSize) {
      this.#remember(chunk * piecesPerChunk + at / pieceSize, Buffer.from(content.subarray(at, at + pieceSize)))
    }
    freeMemory(content)
    return this.#cache.get(chunk * piecesPerChunk + number) ?? Buffer.alloc(0)
  }

  #remember(id: number, content: Buffer): void {
    this.#forget(id)
    this.#cache.set(id, content)
    if (this.#cache.size <= cacheSize) return
    for (const oldest of this.#cache.keys()) {
      this.#forget(oldest)
      return
    }
  }

  #forget(id: number): void {
    const content = this.#cache.get(id)
    if (content === undefined) return
    freeMemory(content)
    this.#cache.delete(id)
  }
}

/** Bytes that lie in one piece of a chunk: from `offset` of it on. */
interface Part {
  readonly number: number
  readonly offset: number
  readonly content: Buffer
}

/** The parts of `content` at `offset` of a chunk. */
function cutAtPieces(offset: number, content: Buffer): Part[] {
  const first = Math.floor(offset / pieceSize)
  const count = Math.ceil((offset + content.length) / pieceSize) - first
  return Array.from({ length: count }, (_, index) => {
    const start = (first + index) * pieceSize
    const from = Math.max(offset, start)
    return { number: first + index, offset: from - start, content: content.subarray(from - offset, start + pieceSize - offset) }
  })
}

/**
 * Gives the memory of a buffer back at once, if it has it for itself. The garbage collector does not see the pressure of
 * memory outside its heap in time: reading 512 MiB took the process from 110 to 230 MiB without this.
 */
function freeMemory(content: Buffer): void {
  const { buffer, byteLength } = content
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0)
}
