/**
 * The bytes of a held snapshot, without a copy: of each page its newest WAL frame within the snapshot, else the main file's page.
 * Keeps: memory stays at one block a stream, whatever the volume's size; no byte is handed out that was read after the holder's death,
 *   and what then fails is ESTALE; a snapshot that lies in the main file alone is checked to be untouched after every read. It opens
 *   the files itself: closing drops this process's POSIX locks, so it has no SQLite connection on them meanwhile.
 * Leaves: holding the snapshot (without which these bytes may change at any time) to lease.ts.
 */
import { open, type FileHandle } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { ErrnoError } from '../base/index.ts'
import { frameHeaderBytes, readExactly, readWalIndex, walHeaderBytes } from './wal-index.ts'

/** What names the bytes of a snapshot. */
export interface SnapshotExtent {
  /** The volume file, absolute. */
  readonly file: string
  readonly pageSize: number
  readonly pageCount: number
  /** Frames of the WAL that belong to it; 0: the main file alone. */
  readonly walFrames: number
  /** Whether it is held still; asked after each read. A process that was killed lets go without a word. */
  readonly isHeld: () => boolean
}

/** Pages that follow each other in one of the two files: `first` counts from 0, `frame` is the first page's frame or undefined. */
interface Run {
  readonly first: number
  readonly count: number
  readonly frame: number | undefined
}

/** Where the pages are. */
interface Files {
  readonly main: FileHandle
  readonly wal?: FileHandle
  /** Page (from 1) to frame (from 0). */
  readonly index: ReadonlyMap<number, number>
  /** Modification time and size of the main file when it was opened; only for snapshots without WAL frames. */
  readonly stamp?: string
}

/** The most that is read at once. */
const blockBytes = 512 * 1024

export class SnapshotBytes {
  readonly #extent: SnapshotExtent
  readonly #files: Files

  private constructor(extent: SnapshotExtent, files: Files) {
    this.#extent = extent
    this.#files = files
  }

  /** Opens the files and reads where the pages are. Throws EIO when the files do not fit the snapshot, ESTALE when it is not held any more. */
  static async open(extent: SnapshotExtent): Promise<SnapshotBytes> {
    const main = await open(extent.file, 'r')
    try {
      if (extent.walFrames > 0) return new SnapshotBytes(extent, { main, ...(await openWal(extent)) })
      return new SnapshotBytes(extent, { main, index: new Map(), stamp: await stampOf(main) })
    } catch (error) {
      await main.close()
      throw extent.isHeld() ? error : staleError(extent)
    }
  }

  /** Whether anybody holds the snapshot still. */
  get isHeld(): boolean {
    return this.#extent.isHeld()
  }

  /** Bytes of the snapshot. */
  get size(): number {
    return this.#extent.pageSize * this.#extent.pageCount
  }

  /** A stream of the bytes from `start` up to, not including, `end`. It fails rather than to end short.
   *  `onBlock` is told the offset up to which bytes were handed out. */
  stream(start: number, end: number, onBlock: (reached: number) => void): Readable {
    return Readable.from(this.#blocks(start, end, onBlock), { objectMode: false, highWaterMark: blockBytes })
  }

  /** Closes the files, once pending reads are over. Call after all streams are destroyed. */
  async close(): Promise<void> {
    await this.#files.main.close()
    await this.#files.wal?.close()
  }

  async *#blocks(start: number, end: number, onBlock: (reached: number) => void): AsyncGenerator<Buffer> {
    const { pageSize } = this.#extent
    const lastPage = Math.ceil(end / pageSize)
    for (let page = Math.floor(start / pageSize); page < lastPage;) {
      const run = this.#runAt(page, lastPage)
      const block = await this.#read(run)
      const blockStart = page * pageSize
      onBlock(Math.min(end, blockStart + block.length))
      yield block.subarray(Math.max(0, start - blockStart), Math.min(block.length, end - blockStart))
      page += run.count
    }
  }

  /** The longest run from `first` that one read of at most a block serves. */
  #runAt(first: number, end: number): Run {
    const { index } = this.#files
    const limit = Math.min(end - first, Math.max(1, Math.floor(blockBytes / this.#extent.pageSize)))
    const frame = index.get(first + 1) // SQLite counts pages from 1
    let count = 1
    while (count < limit && index.get(first + count + 1) === (frame === undefined ? undefined : frame + count)) count++
    return { first, count, frame }
  }

  async #read({ first, count, frame }: Run): Promise<Buffer> {
    const { main, wal = main } = this.#files // without a WAL no page has a frame
    const reading = frame === undefined ? this.#readMain(main, first, count) : this.#readFrames(wal, count, frame)
    const block = await reading.catch((error: unknown) => {
      throw this.isHeld ? error : staleError(this.#extent)
    })
    if (!this.isHeld) throw staleError(this.#extent)
    return block
  }

  async #readMain(main: FileHandle, first: number, count: number): Promise<Buffer> {
    const { file, pageSize } = this.#extent
    const block = Buffer.allocUnsafe(count * pageSize)
    await readExactly(main, block, first * pageSize, `${file}: ends within the snapshot`)
    const { stamp } = this.#files
    if (stamp !== undefined && stamp !== (await stampOf(main))) throw new ErrnoError('EIO', `${file}: was changed under an export`)
    return block
  }

  async #readFrames(wal: FileHandle, count: number, frame: number): Promise<Buffer> {
    const { file, pageSize } = this.#extent
    const frameBytes = frameHeaderBytes + pageSize
    const frames = Buffer.allocUnsafe(count * frameBytes)
    await readExactly(wal, frames, walHeaderBytes + frame * frameBytes, `${file}-wal: ends within the snapshot`)
    for (let i = 0; i < count; i++) frames.copyWithin(i * pageSize, i * frameBytes + frameHeaderBytes, (i + 1) * frameBytes)
    return frames.subarray(0, count * pageSize)
  }
}

async function openWal({
  file,
  pageSize,
  pageCount,
  walFrames,
}: SnapshotExtent): Promise<Pick<Files, 'index'> & { readonly wal: FileHandle }> {
  const wal = await open(`${file}-wal`, 'r')
  try {
    return { wal, index: await readWalIndex(wal, { file: `${file}-wal`, pageSize, pageCount, frames: walFrames }) }
  } catch (error) {
    await wal.close()
    throw error
  }
}

/** What was read, or could not be, may be of later bytes. */
function staleError({ file }: SnapshotExtent): ErrnoError {
  return new ErrnoError('ESTALE', `export: broken off: the FUSE process that held the snapshot of ${file} is gone`)
}

async function stampOf(handle: FileHandle): Promise<string> {
  const { mtimeNs, size } = await handle.stat({ bigint: true })
  return `${String(mtimeNs)} ${String(size)}`
}
