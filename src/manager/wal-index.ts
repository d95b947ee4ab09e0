/**
 * Where in a WAL file the newest frame of each page lies, among the frames that belong to a snapshot.
 * Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
 * Keeps: a WAL of another page size or generation, or shorter than promised, is EIO, never a wrong page.
 * Leaves: reading the pages to snapshot-bytes.ts.
 */
import type { FileHandle } from 'node:fs/promises'
import { ErrnoError } from '../base/index.ts'

/** Offset 0: magic (u32 BE), 4: format, 8: page size, 12: checkpoint number, 16: salt 1, 20: salt 2, 24: two checksums. */
export const walHeaderBytes = 32
/** Offset 0: page number (u32 BE), 4: pages of the database after a commit, else 0, 8: salt 1, 12: salt 2, 16: two checksums. */
export const frameHeaderBytes = 24

const magicNumbers = [0x377f0682, 0x377f0683]

/** The index is read in pieces of about this size. */
const pieceBytes = 1 << 20

export interface WalRange {
  /** For messages. */
  readonly file: string
  readonly pageSize: number
  /** The first so many frames count. */
  readonly frames: number
  /** What the last of them must say the database has. */
  readonly pageCount: number
}

/** Reads the frame headers. Returns for each page the number (from 0) of its newest frame. Throws EIO. */
export async function readWalIndex(wal: FileHandle, range: WalRange): Promise<Map<number, number>> {
  const salts = await readSalts(wal, range)
  const frameBytes = frameHeaderBytes + range.pageSize
  const perPiece = Math.max(1, Math.floor(pieceBytes / frameBytes))
  const piece = Buffer.allocUnsafe(perPiece * frameBytes)
  const index = new Map<number, number>()
  let committedPages = 0
  for (let first = 0; first < range.frames; first += perPiece) {
    const count = Math.min(perPiece, range.frames - first)
    await readExactly(
      wal,
      piece.subarray(0, count * frameBytes),
      walHeaderBytes + first * frameBytes,
      `${range.file}: ends within the snapshot`,
    )
    for (let i = 0; i < count; i++) {
      const at = i * frameBytes
      if (!salts.equals(piece.subarray(at + 8, at + 16))) throw damaged(range.file, `frame ${String(first + i)}: of another generation`)
      index.set(piece.readUInt32BE(at), first + i)
      committedPages = piece.readUInt32BE(at + 4)
    }
  }
  if (committedPages !== range.pageCount) throw damaged(range.file, `frame ${String(range.frames - 1)}: is not the snapshot's commit`)
  return index
}

/** Fills `buffer` from `position`. Throws EIO with `fault` when the file ends before. */
export async function readExactly(handle: FileHandle, buffer: Buffer, position: number, fault: string): Promise<void> {
  for (let done = 0; done < buffer.length;) {
    const { bytesRead } = await handle.read(buffer, done, buffer.length - done, position + done)
    if (bytesRead === 0) throw new ErrnoError('EIO', fault)
    done += bytesRead
  }
}

async function readSalts(wal: FileHandle, { file, pageSize }: WalRange): Promise<Buffer> {
  const header = Buffer.alloc(walHeaderBytes)
  await readExactly(wal, header, 0, `${file}: shorter than its header`)
  if (!magicNumbers.includes(header.readUInt32BE(0))) throw damaged(file, 'has no WAL magic')
  if (header.readUInt32BE(8) !== pageSize)
    throw damaged(file, `has pages of ${String(header.readUInt32BE(8))} bytes, not ${String(pageSize)}`)
  return header.subarray(16, 24)
}

function damaged(file: string, fault: string): ErrnoError {
  return new ErrnoError('EIO', `${file}: ${fault}`)
}
