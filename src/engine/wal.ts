/**
 * The WAL that a process left when it did not end in order: whether SQLite will take all of it.
 * Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
 * SQLite ends a WAL at the first frame whose checksum is wrong, and drops what follows without a word. That is right for a frame that
 *   a kill or a power cut left half written: a page or more of it is old. A single byte that differs is neither: it is damage,
 *   where it can be told from an older version of the page (`hasAlignedNumbers`).
 * Keeps: nothing is changed: SQLite only reads here. What a power cut may leave is never taken for damage.
 * Leaves: what to do about it to whoever opens the file.
 */
import Database from 'better-sqlite3'
import { closeSync, existsSync, fstatSync, openSync, readSync, rmSync, statSync } from 'node:fs'
import { ErrnoError } from '../base/index.ts'
import { prepareCheckpoint } from './checkpoint.ts'
import { assertOpenable, translating } from './connection.ts'

/** Offset 0: magic (u32 BE), 4: format, 8: page size, 12: checkpoint number, 16: two salts, 24: two checksums of the 24 bytes before. */
const headerBytes = 32
/** Offset 0: page number (u32 BE), 4: pages of the database after a commit, else 0, 8: two salts, 16: two checksums. */
const frameHeaderBytes = 24

/** The last bit of the magic tells the byte order of the checksums. */
const magicNumbers = [0x377f0682, 0x377f0683]

type Sums = readonly [number, number]

interface Wal {
  readonly fd: number
  readonly salts: Buffer
  readonly frameBytes: number
  readonly frames: number
  readonly isBigEndian: boolean
}

/** Looks at the WAL beside `file`. Call as its owner, before any connection is open on it. Returns the place of the damage, if any. */
export function findWalDamage(file: string): string | undefined {
  const name = `${file}-wal`
  if ((statSync(name, { throwIfNoEntry: false })?.size ?? 0) <= headerBytes + frameHeaderBytes) return undefined
  const fd = openSync(name, 'r')
  try {
    const header = readAt(fd, 0, headerBytes)
    if (header.every((byte) => byte === 0)) return undefined
    const wal = parseHeader(fd, header)
    if (wal === undefined) return `${name}, its header` // SQLite syncs the header before it writes a frame
    const taken = countTaken(file)
    if (taken < 0) return undefined
    const frame = findDamagedFrame(wal, taken)
    return frame === undefined ? undefined : `${name}, frame ${String(frame + 1)}`
  } finally {
    closeSync(fd)
  }
}

/** Throws EIO `wal_damaged` when SQLite would drop committed changes because of damage. */
export function assertWal(file: string): void {
  assertOpenable(file)
  const place = translating(file, () => findWalDamage(file))
  if (place === undefined) return
  const hint = 'nothing was changed; without its -wal the file is the volume at its last checkpoint: copy both before you remove it'
  throw new ErrnoError('EIO', `volume file ${file}: changes in its WAL are damaged: ${place}`, { hint, problem: 'wal_damaged' })
}

function parseHeader(fd: number, header: Buffer): Wal | undefined {
  const magic = header.readUInt32BE(0)
  const isBigEndian = (magic & 1) === 1
  if (!magicNumbers.includes(magic) || !isSame(checksum(header.subarray(0, 24), [0, 0], isBigEndian), sumsAt(header, 24))) return undefined
  const frameBytes = frameHeaderBytes + header.readUInt32BE(8)
  const frames = Math.floor((fstatSync(fd).size - headerBytes) / frameBytes)
  return { fd, salts: header.subarray(16, 24), frameBytes, frames, isBigEndian }
}

/** How many frames SQLite takes: up to the last commit before the first wrong checksum. -1 when the file is not in WAL mode. */
function countTaken(file: string): number {
  const hadIndex = existsSync(`${file}-shm`)
  const connection = new Database(file, { readonly: true }) // closing one that can write would take the WAL away
  try {
    return prepareCheckpoint(connection, 'NOOP')().frames
  } finally {
    connection.close()
    if (!hadIndex) rmSync(`${file}-shm`, { force: true })
  }
}

/** The first frame behind those that SQLite takes that is not as it was written, when one byte explains it. */
function findDamagedFrame(wal: Wal, taken: number): number | undefined {
  let before = sumsAt(readAt(wal.fd, taken === 0 ? 24 : headerBytes + (taken - 1) * wal.frameBytes + 16, 8), 0)
  for (let index = taken; index < wal.frames; index++) {
    const frame = readAt(wal.fd, headerBytes + index * wal.frameBytes, wal.frameBytes)
    const content = Buffer.concat([frame.subarray(0, 8), frame.subarray(frameHeaderBytes)])
    const [stored, computed] = [sumsAt(frame, 16), checksum(content, before, wal.isBigEndian)]
    const salts = frame.subarray(8, 16)
    if (!isSame(stored, computed) || !salts.equals(wal.salts)) {
      const mayBeOlder = isAmbiguous(stored, computed) && hasAlignedNumbers(frame)
      return !mayBeOlder && isOneByteOff(wal.salts, salts, stored, computed, content.length) ? index : undefined
    }
    before = stored
  }
  return undefined
}

/**
 * Whether the sums differ in their highest bytes only. Changes of the last bytes of words do that, and any number of them looks like one:
 * there are as many places for one as there are such differences.
 */
function isAmbiguous([stored0, stored1]: Sums, [computed0, computed1]: Sums): boolean {
  const differences = (stored0 - computed0) | (stored1 - computed1)
  return differences !== 0 && (differences & 0xffffff) === 0
}

/**
 * Whether the frame has a page on which such changes are the usual ones, since it has big-endian numbers on multiples of 4: page 1, whose
 * header counts pages, and a trunk of the freelist. An older version of it that a power cut left there would be taken for damage.
 * https://www.sqlite.org/fileformat2.html#the_freelist
 */
function hasAlignedNumbers(frame: Buffer): boolean {
  if (frame.readUInt32BE(0) === 1) return true
  const leaves = frame.readUInt32BE(frameHeaderBytes + 4)
  return leaves <= (frame.length - frameHeaderBytes) / 4 - 2
}

function isOneByteOff(salts: Buffer, found: Buffer, stored: Sums, computed: Sums, length: number): boolean {
  const foreign = found.filter((byte, at) => byte !== salts[at]).length
  if (isSame(stored, computed)) return foreign === 1
  return foreign === 0 && (isByteOfSums(stored, computed) || isByteOfContent(stored, computed, length))
}

/** Whether the two differ in one byte. */
function isByteOfSums(stored: Sums, computed: Sums): boolean {
  const different = stored.flatMap((sum, i) => [0, 8, 16, 24].filter((shift) => (((sum ^ (computed[i] ?? 0)) >>> shift) & 0xff) !== 0))
  return different.length === 1
}

/**
 * Whether another value of one byte of the content would give the stored sums. They are sums modulo 2^32, so a word that is greater by d
 * makes them greater by d times two factors of its place: 1 and 1 for the first of the last pair of words, 0 and 1 for the second.
 */
function isByteOfContent([stored0, stored1]: Sums, [computed0, computed1]: Sums, length: number): boolean {
  const [goal0, goal1] = [(stored0 - computed0) >>> 0, (stored1 - computed1) >>> 0]
  let [first, second]: [Sums, Sums] = [[1, 1], [0, 1]] // prettier-ignore
  for (let at = 0; at < length; at += 8) {
    for (const [factor0, factor1] of [first, second]) {
      for (let shift = 0; shift < 32; shift += 8) {
        for (let byte = 1; byte < 256; byte++) {
          const change = byte << shift
          const [by0, by1] = [Math.imul(change, factor0) >>> 0, Math.imul(change, factor1) >>> 0]
          if ((by0 === goal0 && by1 === goal1) || (-by0 >>> 0 === goal0 && -by1 >>> 0 === goal1)) return true
        }
      }
    }
    first = next(first)
    second = next(second)
  }
  return false
}

/** The factors of a place one pair of words earlier. */
function next([factor0, factor1]: Sums): Sums {
  const sum = (factor0 + factor1) >>> 0
  return [sum, (sum + factor1) >>> 0]
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

function sumsAt(bytes: Buffer, at: number): Sums {
  return [bytes.readUInt32BE(at), bytes.readUInt32BE(at + 4)]
}

function isSame(one: Sums, other: Sums): boolean {
  return one[0] === other[0] && one[1] === other[1]
}

function readAt(fd: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  readSync(fd, bytes, 0, length, position)
  return bytes
}
