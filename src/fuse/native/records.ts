/**
 * The records that fuse-native takes for stat and statvfs: arrays of 32-bit words, as its getStatArray lays them out.
 * Keeps: what a word cannot hold becomes the nearest value that it can; an inode number is taken modulo 2^32.
 * Leaves: where the values come from to path-filesystem.ts.
 *
 * Words of a stat record: 0 mode, 1 uid, 2 gid, 3-4 size, 5 dev, 6 nlink, 7 ino, 8 rdev, 9 blksize, 10-11 blocks, 12-13 atime,
 * 14-15 mtime, 16-17 ctime; a pair is 64 bits, low word first; times are milliseconds since the epoch, not before it.
 * Words of a statvfs record: 0 bsize, 1 frsize, 2 blocks, 3 bfree, 4 bavail, 5 files, 6 ffree, 7 favail, 8 fsid, 9 flag, 10 namemax.
 */
import type { Timestamp } from '../../base/index.ts'
import type { Attributes, StatFs } from '../filesystem.ts'

const statWords = 18
const statfsWords = 11
const wordRange = 2 ** 32
const largestWord = wordRange - 1

/** st_blksize, as the direct driver tells it. */
const preferredBlock = 4096

/** A stat record; all zeros for undefined, which goes along with an error. */
export function statRecord(attributes: Attributes | undefined): Uint32Array {
  const words = new Uint32Array(statWords)
  if (attributes === undefined) return words
  const { mode, uid, gid, size, nlink, ino, rdev, blocks, atime, mtime, ctime } = attributes
  words.set([mode, uid, gid])
  putPair(words, 3, size)
  words.set([nlink, ino, rdev, preferredBlock], 6)
  putPair(words, 10, blocks)
  for (const [index, time] of [atime, mtime, ctime].entries()) putPair(words, 12 + 2 * index, milliseconds(time))
  return words
}

/** A stat record of which a directory listing needs inode number and type only. */
export function entryRecord(ino: number, mode: number): Uint32Array {
  const words = new Uint32Array(statWords)
  words[0] = mode
  words[7] = ino
  return words
}

/** A statvfs record. Counts of blocks are 32 bits wide: a larger volume is told in larger blocks. */
export function statfsRecord(stat: StatFs | undefined): Uint32Array {
  const words = new Uint32Array(statfsWords)
  if (stat === undefined) return words
  let scale = 1
  while (stat.blocks / scale > largestWord) scale *= 2
  const unit = stat.blockSize * scale
  const blocks = [stat.blocks, stat.blocksFree, stat.blocksAvailable].map((count) => Math.floor(count / scale))
  const files = [stat.files, stat.filesFree, stat.filesFree].map((count) => Math.min(count, largestWord))
  words.set([unit, unit, ...blocks, ...files, 0, 0, stat.nameMax])
  return words
}

function putPair(words: Uint32Array, at: number, value: number): void {
  words[at] = value % wordRange
  words[at + 1] = Math.floor(value / wordRange)
}

function milliseconds({ sec, nsec }: Timestamp): number {
  return Math.max(0, sec * 1000 + Math.floor(nsec / 1e6))
}
