/**
 * The one gate between content and SQL: every piece of a chunk passes it, both ways.
 * Keeps: what is decoded is what was encoded, by its checksum, or an EIO error.
 * Leaves: rows to chunks.ts. Compression and sealing come here, as further codecs, and nowhere else.
 */
import { ErrnoError } from '../base/index.ts'
import { chunkAddress, checksum } from './checksums.ts'
import { bytes, integer, type Row } from './rows.ts'
import { pieceSize, piecesPerChunk } from './schema.ts'

/** The stored form of a piece. */
export interface EncodedPiece {
  readonly codec: number
  readonly crc: number
  readonly data: Buffer
}

/** Codec 0: the bytes as they are; the chunk is named by their SHA-256. */
export const plainCodec = 0

/** How long an address is that names no content, in bytes. */
export const namelessLength = 8

/** What stands for the address of a chunk that was changed in its place: its id, which no content is found by. */
export function namelessAddress(chunk: number): Buffer {
  const address = Buffer.alloc(namelessLength)
  address.writeBigUInt64BE(BigInt(chunk))
  return address
}

/** The stored form of the piece with that id, which may share its memory; `plain` is its plain checksum, where that is known. */
export function encodePiece(id: number, piece: Buffer, plain?: number): EncodedPiece {
  const crc = plain === undefined || piece.length !== pieceSize ? checksumOf(id, piece) : plain ^ begunWith(id)
  return { codec: plainCodec, crc, data: piece }
}

/** The bytes of a row of pieces: codec, crc, data. Throws EIO naming the chunk when they are not those that were stored under that id. */
export function decodePiece(id: number, row: Row): Buffer {
  const chunk = Math.floor(id / piecesPerChunk)
  assertCodec(chunk, integer(row, 0, 'pieces', 'codec'))
  const piece = bytes(row, 2, 'pieces', 'data')
  if (checksumOf(id, piece) !== (integer(row, 1, 'pieces', 'crc') | 0)) throw damage(chunk, 'its content has changed')
  return piece
}

/**
 * CRC-32 that begins with the id in place of 0: of the same bytes in another place it is another. Signed, so that SQLite stores nearly all
 * in 4 bytes: a row that keeps its length is overwritten in its place.
 */
const checksumOf = (id: number, piece: Buffer): number => checksum(piece, id % 2 ** 32)

/**
 * The difference between the plain checksum of a whole piece and the one that begins with the id: a CRC is linear, so the content does not
 * matter. It is linear in the id, too: four tables, one for each byte of it (as in crc32_combine of zlib).
 */
function begunWith(id: number): number {
  const low = id % 2 ** 32
  let result = 0
  for (const [byte, table] of beginTables.entries()) result ^= table[(low >>> (8 * byte)) & 0xff] ?? 0
  return result
}

const beginTables = makeBeginTables()

function makeBeginTables(): Int32Array[] {
  const zeros = Buffer.alloc(pieceSize)
  const ofZeros = checksum(zeros)
  const ofBits = Array.from({ length: 32 }, (_, bit) => checksumOf(2 ** bit, zeros) ^ ofZeros)
  const ofByte = (byte: number, value: number): number =>
    ofBits.slice(8 * byte, 8 * byte + 8).reduce((sum, ofBit, bit) => ((value >>> bit) & 1 ? sum ^ ofBit : sum), 0)
  return Array.from({ length: 4 }, (_, byte) => Int32Array.from({ length: 256 }, (_, value) => ofByte(byte, value)))
}

/**
 * The bytes of a chunk that an older version has stored whole, by a row: size, codec, data, crc, address. It is proven by its checksum,
 * where version 1 gave it none by its address. Throws EIO as above.
 */
export function decodeWhole(chunk: number, row: Row): Buffer {
  const size = integer(row, 0, 'chunks', 'size')
  assertCodec(chunk, integer(row, 1, 'chunk_data', 'codec'))
  const content = bytes(row, 2, 'chunk_data', 'data')
  if (content.length !== size) throw damage(chunk, `${String(content.length)} bytes are stored where ${String(size)} belong`)
  const isIntact =
    row[3] === null
      ? chunkAddress(content).equals(bytes(row, 4, 'chunks', 'address'))
      : checksum(content) === (integer(row, 3, 'chunks', 'crc') | 0)
  if (!isIntact) throw damage(chunk, 'its content has changed')
  return content
}

/** EIO that names a chunk. */
export function damage(chunk: number, fault: string): ErrnoError {
  return new ErrnoError('EIO', `chunk ${String(chunk)}: ${fault}`, { context: { chunk } })
}

/** Runs `work`, which reads chunks. Returns false when one of them is damaged. */
export function unlessDamaged(work: () => void): boolean {
  try {
    work()
    return true
  } catch (error) {
    if (error instanceof ErrnoError && error.code === 'EIO') return false
    throw error
  }
}

function assertCodec(chunk: number, codec: number): void {
  if (codec !== plainCodec) throw damage(chunk, `codec ${String(codec)} is unknown`)
}
