/**
 * The bytes of files: reading, writing and truncating over extents and chunks.
 * Keeps: a read returns what was last written, zeros in holes; a written range is stored as chunks of at most one block;
 *   a part of what one extent alone names, or all of a small one, is written over in its place; a block that small writes have cut into
 *   many extents is folded into one chunk again.
 * Leaves: transactions to volume.ts; who may write to the caller.
 */
import { ErrnoError, isRegular, now, type Ino } from '../base/index.ts'
import type { Chunks } from './chunks.ts'
import { unlessDamaged } from './codec.ts'
import type { Digests } from './digests.ts'
import { blockEnd, blockStart, seekExtents, stepSize, type Extent, type Extents, type SeekTarget } from './extents.ts'
import type { Inode, InodePatch, Inodes } from './inodes.ts'
import { blockSize, pieceSize } from './schema.ts'

/** The largest file: 2^53 - 1 bytes would be the format's limit; 16 TiB is what ext4 allows with 4 KiB blocks. */
export const maximumFileSize = 16 * 2 ** 40

/** A block of more extents than this is folded: 16 small writes then pay for rewriting 128 KiB once. */
const foldAt = 16

/** A copy ends after this much, so that others are not kept waiting: 8192 extents of 128 KiB. */
const copyStep = 1 << 30

/** What a write does to the times. */
export interface WriteOptions {
  /** The caller owns mtime and sets it apart (the kernel's write-back). */
  readonly keepTimes: boolean
  /** Bits to clear from the mode: setuid and setgid. */
  readonly clearMode: number
}

export class Content {
  readonly #inodes: Inodes
  readonly #chunks: Chunks
  readonly #extents: Extents
  readonly #digests: Digests

  /** `digests` are those of `chunks`. */
  constructor(inodes: Inodes, chunks: Chunks, extents: Extents, digests: Digests) {
    this.#inodes = inodes
    this.#chunks = chunks
    this.#extents = extents
    this.#digests = digests
  }

  /** Fills `into` with the bytes from `offset` on; returns how many there were before the end of the file. */
  read(ino: Ino, offset: number, into: Buffer): number {
    const { size } = this.#file(ino)
    const end = Math.min(size, offset + into.length)
    if (end <= offset) return 0
    this.#fill(into, offset, end, this.#extents.overlapping(ino, offset, end))
    return end - offset
  }

  /** Writes `data` at `offset`. Call inside a transaction. Throws EFBIG past the size limit. */
  write(ino: Ino, offset: number, data: Buffer, options: WriteOptions): void {
    const inode = this.#file(ino)
    const end = offset + data.length
    assertSize(ino, end)
    if (data.length === 0) return // write(2): it has no effect, nor does it make the file longer
    const stored = inode.stored + this.#writeBlocks(inode, offset, data)
    const { keepTimes, clearMode } = options
    if (keepTimes && stored === inode.stored && end <= inode.size && (inode.mode & clearMode) === 0) return
    this.#inodes.update(inode, this.#written(inode, stored, Math.max(inode.size, end), options))
  }

  /** Returns how many bytes more are stored then. */
  #writeBlocks(inode: Inode, offset: number, data: Buffer): number {
    const second = blockEnd(offset) // what lies before it is asked about at once
    if (second < offset + data.length) this.#digests.expect(second, data.subarray(second - offset))
    try {
      let [at, added] = [offset, 0]
      for (const part of cutAtBlocks(offset, data)) {
        added += part.length - this.#replace(inode, at, part)
        at += part.length
      }
      return added
    } finally {
      this.#digests.forget(data)
    }
  }

  /** Sets the size: what is cut off is freed, what is added is a hole. Returns the inode. Call inside a transaction. */
  resize(inode: Inode, size: number): Inode {
    if (!isRegular(inode.mode)) throw new ErrnoError('EINVAL', `inode ${String(inode.ino)}: only a file has a size to set`)
    assertSize(inode.ino, size)
    const freed = size < inode.size ? this.#extents.clear(inode.ino, size, inode.size) : 0
    return this.#inodes.update(inode, { size, stored: inode.stored - freed })
  }

  /** How many bytes of a range are not stored, those behind the end included. Throws EFBIG for a range past the size limit. */
  holesIn(ino: Ino, offset: number, length: number): number {
    this.#file(ino)
    assertSize(ino, offset + length)
    let holes = length
    for (const extent of this.#extents.each(ino, offset, offset + length)) {
      holes -= Math.min(extent.offset + extent.length, offset + length) - Math.max(extent.offset, offset)
    }
    return holes
  }

  /** Has the file reach at least to `end`; what is added is a hole. Times move as by a write. Call inside a transaction. Throws EFBIG. */
  extend(ino: Ino, end: number): void {
    const inode = this.#file(ino)
    assertSize(ino, end)
    this.#inodes.update(inode, this.#changed({ size: Math.max(inode.size, end) }))
  }

  /** Makes a range of the file a hole. Times move as by a write. Call inside a transaction. */
  clear(ino: Ino, offset: number, length: number): void {
    const inode = this.#file(ino)
    const freed = this.#extents.clear(ino, offset, Math.min(inode.size, offset + length))
    this.#inodes.update(inode, this.#changed({ stored: inode.stored - freed }))
  }

  /** As `seekExtents`. */
  seek(ino: Ino, offset: number, target: SeekTarget): number {
    return seekExtents(this.#extents, this.#file(ino), offset, target)
  }

  /**
   * Has a range of `to` be that of `from`, by extents over the same chunks. Returns the length, which may be shorter.
   * Call inside a transaction. Throws EINVAL for ranges of one file that overlap, EFBIG.
   */
  copy(from: Ino, fromOffset: number, to: Ino, toOffset: number, length: number): number {
    const source = this.#file(from)
    this.#file(to)
    if (from === to && Math.abs(fromOffset - toOffset) < length) throw new ErrnoError('EINVAL', `inode ${String(to)}: the ranges overlap`)
    const end = Math.min(source.size, fromOffset + Math.min(length, copyStep))
    if (end <= fromOffset) return 0
    const shift = toOffset - fromOffset
    assertSize(to, end + shift)
    const cleared = this.#extents.clear(to, toOffset, end + shift)
    const added =
      shift % blockSize === 0 ? this.#shareBlocks(to, from, fromOffset, end, shift) : this.#shareAll(to, from, fromOffset, end, shift)
    const target = this.#file(to)
    const size = Math.max(target.size, end + shift)
    this.#inodes.update(target, this.#changed({ size, stored: target.stored + added - cleared }))
    return end - fromOffset
  }

  /** Names every extent in start … end of `from` once more, `shift` bytes further, which moves blocks onto blocks. Returns their bytes. */
  #shareBlocks(to: Ino, from: Ino, start: number, end: number, shift: number): number {
    const edges = [start, end - 1].flatMap((at) => this.#extents.overlapping(from, at, at + 1))
    const cut = edges.filter(({ offset, length }) => offset < start || offset + length > end)
    const each = new Map(cut.map((extent) => [extent.offset, extent]))
    const whole = this.#extents.repeat(to, from, start, end, shift)
    return [...each.values()].reduce((sum, extent) => sum + this.#share(to, extent, start, end, shift), whole)
  }

  /** The same wherever that moves them. */
  #shareAll(to: Ino, from: Ino, start: number, end: number, shift: number): number {
    const extents = [...this.#extents.each(from, start, end)]
    return extents.reduce((sum, extent) => sum + this.#share(to, extent, start, end, shift), 0)
  }

  /** Names the part of an extent in start … end once more, `shift` bytes further, cut where a block ends there. Returns its bytes. */
  #share(to: Ino, { offset, length, chunk, chunkOffset }: Extent, start: number, end: number, shift: number): number {
    const first = Math.max(offset, start)
    const last = Math.min(offset + length, end)
    for (let at = first; at < last;) {
      const pieceEnd = Math.min(last, blockEnd(at + shift) - shift)
      this.#chunks.retain(chunk)
      this.#extents.insert(to, { offset: at + shift, length: pieceEnd - at, chunk, chunkOffset: chunkOffset + at - offset })
      at = pieceEnd
    }
    return last - first
  }

  /** Frees up to `stepSize` extents of an inode that is going; returns how many: fewer are all there were. Call inside a transaction. */
  removeSome(ino: Ino): number {
    const { removed, freed } = this.#extents.removeSome(ino)
    if (removed < stepSize) return removed // the row goes next
    const inode = this.#inodes.get(ino)
    this.#inodes.update(inode, { stored: inode.stored - freed })
    return removed
  }

  #written(inode: Inode, stored: number, size: number, { keepTimes, clearMode }: WriteOptions): InodePatch {
    const patch = { stored, size, mode: inode.mode & ~clearMode }
    return keepTimes ? patch : this.#changed(patch)
  }

  /** The patch of a change that moves mtime and ctime. */
  #changed(patch: InodePatch): InodePatch {
    const time = now()
    return { ...patch, mtime: time, ctime: time }
  }

  #file(ino: Ino): Inode {
    const inode = this.#inodes.get(ino)
    if (isRegular(inode.mode)) return inode
    throw new ErrnoError('EINVAL', `inode ${String(ino)}: only a regular file has content`)
  }

  /** Stores `piece`, which lies within one block, and folds the block when it has become many extents. Returns the bytes it replaced. */
  #replace({ ino, stored }: Inode, offset: number, piece: Buffer): number {
    const start = blockStart(offset)
    const block = stored === 0 ? [] : this.#extents.inBlocks(ino, start, start + blockSize)
    if (this.#overwrite(block, offset, piece)) return piece.length
    const replaced = this.#extents.clearOf(ino, block, offset, offset + piece.length)
    const chunk = this.#chunks.put(piece)
    this.#extents.insert(ino, { offset, length: piece.length, chunk, chunkOffset: 0 })
    if (block.length >= foldAt) this.#fold(ino, start)
    return replaced
  }

  /**
   * Writes `piece` over a part of an extent, in the place where that is stored. Returns whether that could be done. What is replaced whole
   * is stored anew, by its content, which may be there already; but not as little as a page of a database, which is replaced often.
   */
  #overwrite(block: readonly Extent[], offset: number, piece: Buffer): boolean {
    const under = block.find((extent) => extent.offset <= offset && extent.offset + extent.length >= offset + piece.length)
    if (under === undefined || (under.length === piece.length && piece.length > pieceSize)) return false
    return this.#chunks.overwrite(under.chunk, under.chunkOffset + offset - under.offset, piece)
  }

  /** Makes each run of adjacent extents in a crowded block one extent over one new chunk. */
  #fold(ino: Ino, start: number): void {
    const extents = this.#extents.inBlocks(ino, start, start + blockSize)
    const runs = adjacentRuns(extents)
    if (extents.length <= foldAt || runs.length * 2 > extents.length) return
    for (const run of runs) if (run.length > 1) this.#foldRun(ino, run)
  }

  #foldRun(ino: Ino, run: readonly Extent[]): void {
    const first = run.at(0)
    const last = run.at(-1)
    if (first === undefined || last === undefined) return
    const [start, end] = [first.offset, last.offset + last.length]
    const folded = Buffer.allocUnsafe(end - start)
    if (!unlessDamaged(() => this.#fill(folded, start, end, run))) return // what was written is kept, whatever lies beside it
    const chunk = this.#chunks.put(folded)
    this.#extents.clear(ino, start, end)
    this.#extents.insert(ino, { offset: start, length: end - start, chunk, chunkOffset: 0 })
  }

  /** Copies start … end of a file into `into` from its start: `extents` in order, zeros between them. */
  #fill(into: Buffer, start: number, end: number, extents: readonly Extent[]): void {
    let at = start
    for (const { offset, length, chunk, chunkOffset } of extents) {
      const from = Math.max(offset, start)
      const to = Math.min(offset + length, end)
      if (from > at) into.fill(0, at - start, from - start)
      this.#chunks.read(chunk, chunkOffset + from - offset, into.subarray(from - start, to - start))
      at = to
    }
    if (at < end) into.fill(0, at - start, end - start)
  }
}

/** Content that is to lie at `offset`, in parts that each lie in one block. */
function cutAtBlocks(offset: number, data: Buffer): Buffer[] {
  const parts: Buffer[] = []
  const end = offset + data.length
  for (let at = offset; at < end; at = blockEnd(at)) parts.push(data.subarray(at - offset, Math.min(end, blockEnd(at)) - offset))
  return parts
}

/** Groups extents, in order, into runs without a hole between them. */
function adjacentRuns(extents: readonly Extent[]): Extent[][] {
  const runs: Extent[][] = []
  let end = -1
  for (const extent of extents) {
    if (extent.offset === end) runs.at(-1)?.push(extent)
    else runs.push([extent])
    end = extent.offset + extent.length
  }
  return runs
}

function assertSize(ino: Ino, size: number): void {
  if (size > maximumFileSize) throw new ErrnoError('EFBIG', `inode ${String(ino)}: a file has at most ${String(maximumFileSize)} bytes`)
}
