/**
 * The WAL that a process left when it did not end in order: whether SQLite will take all of it.
 * Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
 * SQLite ends a WAL at the first frame whose checksum is wrong, and drops what follows without a word. That is right for the last
 *   transaction of a killed process, and for what a power cut kept from the disk; anywhere else it is a loss of committed data.
 * Keeps: nothing is changed: SQLite only reads here. Leaves: what to do about it to whoever opens the file.
 */
import Database from 'better-sqlite3'
import { closeSync, fstatSync, openSync, readFileSync, readSync, rmSync, statSync, existsSync } from 'node:fs'

/** Offset 0: magic (u32 BE), 4: format, 8: page size, 12: checkpoint number, 16: two salts, 24: two checksums of the 24 bytes before. */
const headerBytes = 32
/** Offset 0: page number (u32 BE), 4: pages of the database after a commit, else 0, 8: two salts, 16: two checksums. */
const frameHeaderBytes = 24

/** The last bit of the magic tells the byte order of the checksums. */
const magicNumbers = [0x377f0682, 0x377f0683]

/** Behind so many frames of an older generation none of this one comes any more: damage seldom reaches further. */
const foreignFrames = 16

/** What SQLite would drop. */
export interface WalFault {
  /** `FILE-wal, frame 11`. */
  readonly place: string
  /** The machine has been started since the WAL was written: a power cut may have kept the frame from the disk. */
  readonly isOld: boolean
}

type Sums = readonly [number, number]

interface Wal {
  readonly fd: number
  readonly salts: Buffer
  readonly frameBytes: number
  readonly frames: number
  readonly isBigEndian: boolean
}

/** Looks at the WAL beside `file`. Call as its owner, before any connection is open on it. Returns undefined when SQLite loses nothing. */
export function findWalFault(file: string): WalFault | undefined {
  const name = `${file}-wal`
  if ((statSync(name, { throwIfNoEntry: false })?.size ?? 0) <= headerBytes + frameHeaderBytes) return undefined
  const fd = openSync(name, 'r')
  try {
    const wal = readWal(fd)
    if (wal === undefined) return { place: `${name}, its header`, isOld: false } // SQLite syncs the header before it writes a frame
    const taken = countTaken(file)
    if (taken < 0 || !hasCommitBehind(wal, taken)) return undefined
    return { place: `${name}, frame ${String(taken + 1)} or after`, isOld: fstatSync(fd).mtimeMs < bootTimeMs() }
  } finally {
    closeSync(fd)
  }
}

function readWal(fd: number): Wal | undefined {
  const header = readAt(fd, 0, headerBytes)
  const magic = header.readUInt32BE(0)
  const isBigEndian = (magic & 1) === 1
  const sums = checksum(header.subarray(0, 24), [0, 0], isBigEndian)
  if (!magicNumbers.includes(magic) || !isSame(sums, header, 24)) return undefined
  const frameBytes = frameHeaderBytes + header.readUInt32BE(8)
  const frames = Math.floor((fstatSync(fd).size - headerBytes) / frameBytes)
  return { fd, salts: header.subarray(16, 24), frameBytes, frames, isBigEndian }
}

/** How many frames SQLite takes: up to the last commit before the first wrong checksum. -1 when the file is not in WAL mode. */
function countTaken(file: string): number {
  const hadIndex = existsSync(`${file}-shm`)
  const connection = new Database(file, { readonly: true }) // closing one that can write would take the WAL away
  try {
    const rows = connection.pragma('wal_checkpoint(NOOP)') as readonly { readonly log: number }[]
    return rows[0]?.log ?? -1
  } finally {
    connection.close()
    if (!hadIndex) rmSync(`${file}-shm`, { force: true })
  }
}

/** Whether a whole frame of this generation that commits something lies behind the frames that SQLite takes. */
function hasCommitBehind({ fd, salts, frameBytes, frames, isBigEndian }: Wal, taken: number): boolean {
  for (let [frame, foreign] = [taken, 0]; frame < frames && foreign < foreignFrames; frame++) {
    const at = headerBytes + frame * frameBytes
    const header = readAt(fd, at, frameHeaderBytes)
    foreign = header.subarray(8, 16).equals(salts) ? 0 : foreign + 1
    if (foreign > 0 || header.readUInt32BE(4) === 0) continue
    const before = readAt(fd, frame === 0 ? 24 : at - frameBytes + 16, 8) // the checksums go on from those of the frame before
    const start = checksum(header.subarray(0, 8), [before.readUInt32BE(0), before.readUInt32BE(4)], isBigEndian)
    if (isSame(checksum(readAt(fd, at + frameHeaderBytes, frameBytes - frameHeaderBytes), start, isBigEndian), header, 16)) return true
  }
  return false
}

/** SQLite's checksum over pairs of 32-bit words, going on from `start`. */
function checksum(data: Buffer, start: Sums, isBigEndian: boolean): Sums {
  let [s0, s1] = start
  for (let at = 0; at + 8 <= data.length; at += 8) {
    s0 = (s0 + (isBigEndian ? data.readUInt32BE(at) : data.readUInt32LE(at)) + s1) >>> 0
    s1 = (s1 + (isBigEndian ? data.readUInt32BE(at + 4) : data.readUInt32LE(at + 4)) + s0) >>> 0
  }
  return [s0, s1]
}

function isSame([s0, s1]: Sums, stored: Buffer, at: number): boolean {
  return stored.readUInt32BE(at) === s0 && stored.readUInt32BE(at + 4) === s1
}

function readAt(fd: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  readSync(fd, bytes, 0, length, position)
  return bytes
}

/** When the machine was started, proc(5). */
function bootTimeMs(): number {
  return Number(/^btime (\d+)$/m.exec(readFileSync('/proc/stat', 'utf8'))?.[1] ?? 0) * 1000
}
