/**
 * Tables `chunks` and `chunk_data`: the pool, every distinct piece of content once.
 * Keeps: `refs` equals the number of extents that name the chunk; at 0 the chunk is gone at once, its pages reused;
 *   stored bytes never change, and where they have, a read is EIO, never wrong bytes.
 * Leaves: cutting to content.ts, the stored form to codec.ts.
 */
import { crc32 } from 'node:zlib'
import { ErrnoError, type Ino } from '../base/index.ts'
import { chunkAddress, decodeChunk, encodeChunk } from './codec.ts'
import type { Connection, Statement } from './connection.ts'
import { whole } from './extents.ts'
import { bytes, integer, type Row } from './rows.ts'

/** Decoded chunks kept for the next read: 16 of at most 128 KiB are 2 MiB. */
const cacheSize = 16

export class Chunks {
  readonly #upsert: Statement<[Buffer, number, number], Row>
  readonly #insertData: Statement<[number, number, Buffer]>
  readonly #addRefs: Statement<[number, number]>
  readonly #addRefsOf: Statement<[number, number, number, number]>
  readonly #selectRefs: Statement<[number], Row>
  readonly #delete: Statement<[number]>
  readonly #deleteData: Statement<[number]>
  readonly #selectData: Statement<[number], Row>
  /** Oldest first. */
  readonly #cache = new Map<number, Buffer>()

  constructor(connection: Connection) {
    this.#upsert = connection
      .prepare<[Buffer, number, number], Row>(
        'INSERT INTO chunks (address, size, refs, crc) VALUES (?, ?, 1, ?) ON CONFLICT (address) DO UPDATE SET refs = refs + 1 RETURNING id, refs',
      )
      .raw(true)
    this.#insertData = connection.prepare('INSERT INTO chunk_data (id, codec, data) VALUES (?, ?, ?)')
    this.#addRefs = connection.prepare('UPDATE chunks SET refs = refs + ? WHERE id = ?')
    this.#addRefsOf = connection.prepare(
      `UPDATE chunks SET refs = refs + named.n FROM (SELECT chunk, count(*) AS n FROM extents WHERE ${whole} GROUP BY chunk) AS named WHERE id = named.chunk`,
    )
    this.#selectRefs = connection.prepare<[number], Row>('SELECT refs FROM chunks WHERE id = ?').raw(true)
    this.#delete = connection.prepare('DELETE FROM chunks WHERE id = ?')
    this.#deleteData = connection.prepare('DELETE FROM chunk_data WHERE id = ?')
    this.#selectData = connection
      .prepare<[number], Row>(
        'SELECT c.size, d.codec, d.data, c.crc, c.address FROM chunks c JOIN chunk_data d ON d.id = c.id WHERE c.id = ?',
      )
      .raw(true)
  }

  /** Puts `content` (1 to 131072 bytes, not kept) into the pool and counts one ref; returns the chunk's id. Call inside a transaction. */
  put(content: Buffer): number {
    const row = this.#upsert.get(chunkAddress(content), content.length, crc32(content))
    if (row === undefined) throw new ErrnoError('EIO', 'table chunks: an insertion returned no row')
    const id = integer(row, 0, 'chunks', 'id')
    if (integer(row, 1, 'chunks', 'refs') > 1) return id
    const { codec, data } = encodeChunk(content)
    this.#insertData.run(id, codec, data)
    return id
  }

  /** The content of a chunk. The buffer is the pool's: do not change it, nor use it after the next call. Throws EIO naming the chunk when it is missing or damaged. */
  get(id: number): Buffer {
    const known = this.#cache.get(id)
    if (known !== undefined) return known
    const row = this.#selectData.get(id)
    if (row === undefined)
      throw new ErrnoError('EIO', `chunk ${String(id)}: an extent names it but the pool lacks it`, { context: { chunk: id } })
    const encoded = { codec: integer(row, 1, 'chunk_data', 'codec'), data: bytes(row, 2, 'chunk_data', 'data') }
    const content = decodeChunk(id, encoded, integer(row, 0, 'chunks', 'size'))
    if (!isIntact(content, row)) throw new ErrnoError('EIO', `chunk ${String(id)}: its content has changed`, { context: { chunk: id } })
    this.#remember(id, content)
    return content
  }

  /** One more extent names the chunk. Call inside a transaction. */
  retain(id: number): void {
    this.#addRefs.run(1, id)
  }

  /** One more extent names the chunk of each that lies whole in start … end of a file. Call inside a transaction. */
  retainAll(ino: Ino, start: number, end: number): void {
    this.#addRefsOf.run(ino, start, end, end)
  }

  /** One extent less names the chunk; the last one takes it away. Call inside a transaction. */
  release(id: number): void {
    const row = this.#selectRefs.get(id)
    if (row === undefined)
      throw new ErrnoError('EIO', `chunk ${String(id)}: an extent names it but the pool lacks it`, { context: { chunk: id } })
    if (integer(row, 0, 'chunks', 'refs') > 1) {
      this.#addRefs.run(-1, id)
      return
    }
    this.#delete.run(id)
    this.#deleteData.run(id)
    this.#forget(id) // the id may be used again
  }

  /** Drops the cache: an id in it may come from a transaction that was rolled back. */
  rolledBack(): void {
    this.#cache.clear()
  }

  #remember(id: number, content: Buffer): void {
    this.#cache.set(id, content)
    if (this.#cache.size <= cacheSize) return
    for (const oldest of this.#cache.keys()) {
      this.#forget(oldest)
      return
    }
  }

  #forget(id: number): void {
    const content = this.#cache.get(id)
    if (content !== undefined) freeMemory(content)
    this.#cache.delete(id)
  }
}

/** Whether content is what was put: by its checksum (column 3), and where a chunk of version 1 has none, by its address (column 4). */
function isIntact(content: Buffer, row: Row): boolean {
  if (row[3] === null) return chunkAddress(content).equals(bytes(row, 4, 'chunks', 'address'))
  return crc32(content) === integer(row, 3, 'chunks', 'crc')
}

/**
 * Gives the memory of a buffer back at once, if it has it for itself. The garbage collector does not see the pressure of
 * memory outside its heap in time: reading 512 MiB took the process from 110 to 230 MiB without this.
 */
function freeMemory(content: Buffer): void {
  const { buffer, byteLength } = content
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0)
}
