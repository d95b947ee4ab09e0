/**
 * The bytes of a file of the model: each byte with a flag that says whether it was written or is a hole.
 * Keeps: what is not written reads as zero; nothing but a plain loop over blocks, unlike the engine's extents.
 * Leaves: sizes, limits and times to model.ts.
 */
import { blockSize } from '../../src/engine/index.ts'

interface Block {
  readonly bytes: Buffer
  /** 1 for a byte that was written, 0 in a hole. */
  readonly written: Buffer
  /** The sum of the flags; undefined after a change until it is asked for. */
  stored: number | undefined
}

export class SparseBytes {
  readonly #blocks = new Map<number, Block>()

  write(offset: number, data: Buffer): void {
    this.#each(offset, offset + data.length, (index, from, to, at) => {
      const block = this.#make(index)
      data.copy(block.bytes, from, at, at + to - from)
      block.written.fill(1, from, to)
      block.stored = undefined
    })
  }

  /** Makes a hole; `end` may be Infinity. */
  clear(start: number, end: number): void {
    for (const [index, block] of this.#blocks) {
      const from = Math.max(0, start - index * blockSize)
      const to = Math.min(blockSize, end - index * blockSize)
      if (from >= to) continue
      block.bytes.fill(0, from, to)
      block.written.fill(0, from, to)
      block.stored = undefined
      if (!block.written.includes(1)) this.#blocks.delete(index)
    }
  }

  read(offset: number, length: number): Buffer {
    const into = Buffer.alloc(length)
    this.#each(offset, offset + length, (index, from, to, at) => this.#blocks.get(index)?.bytes.copy(into, at, from, to))
    return into
  }

  /** Has `length` bytes from `to` on be what `source` has from `from` on, holes included. */
  copy(source: SparseBytes, from: number, to: number, length: number): void {
    const pieces = source.#pieces(from, from + length)
    this.clear(to, to + length)
    for (const { offset, bytes } of pieces) this.write(to + offset - from, bytes)
  }

  /** The written pieces of start … end, as copies. */
  #pieces(start: number, end: number): { offset: number; bytes: Buffer }[] {
    const pieces: { offset: number; bytes: Buffer }[] = []
    for (const index of [...this.#blocks.keys()].sort((a, b) => a - b)) {
      const blockEnd = Math.min(end, (index + 1) * blockSize)
      for (let at = this.nextData(Math.max(start, index * blockSize)); at < blockEnd;) {
        const pieceEnd = Math.min(blockEnd, this.nextHole(at))
        pieces.push({ offset: at, bytes: this.read(at, pieceEnd - at) })
        at = this.nextData(pieceEnd)
      }
    }
    return pieces
  }

  /** The first written byte from `offset` on; Infinity when there is none. */
  nextData(offset: number): number {
    const found = [...this.#blocks].map(([index, { written }]) => {
      const at = written.indexOf(1, Math.max(0, Math.min(blockSize, offset - index * blockSize)))
      return at < 0 ? Infinity : index * blockSize + at
    })
    return Math.min(Infinity, ...found)
  }

  /** The first byte of a hole from `offset` on. */
  nextHole(offset: number): number {
    const index = Math.floor(offset / blockSize)
    const block = this.#blocks.get(index)
    if (block === undefined) return offset
    const at = block.written.indexOf(0, offset - index * blockSize)
    return at < 0 ? this.nextHole((index + 1) * blockSize) : index * blockSize + at
  }

  /** How many bytes were written. */
  get stored(): number {
    let count = 0
    for (const block of this.#blocks.values()) count += block.stored ??= countFlags(block.written)
    return count
  }

  /** The ranges that a comparison must read: each block with a written byte. */
  get blocks(): number[] {
    return [...this.#blocks.keys()].map((index) => index * blockSize)
  }

  /** Calls `visit` for each piece of start … end that lies in one block: its index, the range in it, and the distance from start. */
  #each(start: number, end: number, visit: (index: number, from: number, to: number, at: number) => void): void {
    for (let at = start; at < end;) {
      const index = Math.floor(at / blockSize)
      const to = Math.min(end, (index + 1) * blockSize)
      visit(index, at - index * blockSize, to - index * blockSize, at - start)
      at = to
    }
  }

  #make(index: number): Block {
    const block = this.#blocks.get(index) ?? { bytes: Buffer.alloc(blockSize), written: Buffer.alloc(blockSize), stored: 0 }
    this.#blocks.set(index, block)
    return block
  }
}

function countFlags(flags: Buffer): number {
  let count = 0
  for (const flag of flags) count += flag
  return count
}
