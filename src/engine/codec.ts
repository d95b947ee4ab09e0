/**
 * The one gate between content and SQL: every chunk passes it, both ways.
 * Keeps: what `decodeChunk` returns is what `encodeChunk` was given, or an EIO error.
 * Leaves: rows to chunks.ts. Compression and sealing come here, as further codecs, and nowhere else.
 */
import { hash } from 'node:crypto'
import { ErrnoError } from '../base/index.ts'

/** The stored form of a chunk. */
export interface EncodedChunk {
  readonly codec: number
  readonly data: Buffer
}

/** Codec 0: the bytes as they are, named by their SHA-256. */
export const plainCodec = 0

/** The address of a chunk: 32 bytes, equal iff the content is equal. */
export function chunkAddress(content: Buffer): Buffer {
  return hash('sha256', content, 'buffer')
}

/** The stored form of `content`, which may share its memory. */
export function encodeChunk(content: Buffer): EncodedChunk {
  return { codec: plainCodec, data: content }
}

/** The content of a stored chunk: exactly `size` bytes. Throws EIO when it cannot be that. */
export function decodeChunk(id: number, { codec, data }: EncodedChunk, size: number): Buffer {
  if (codec !== plainCodec)
    throw new ErrnoError('EIO', `chunk ${String(id)}: codec ${String(codec)} is unknown`, { context: { chunk: id } })
  if (data.length === size) return data
  throw new ErrnoError('EIO', `chunk ${String(id)}: ${String(data.length)} bytes are stored where ${String(size)} belong`, {
    context: { chunk: id },
  })
}
