/**
 * Zeros behind the end of a file, so that what SQLite then writes there page by page meets pages of the page cache that exist: to make one
 * for each small write costs ext4 about as much again as the write.
 */
import { writeSync } from 'node:fs'

/** Larger pieces make larger folios, in which ext4 finds the place of a small write more slowly, and memory that a host may have to find first. */
const pieceBytes = 64 << 10

const zeros = Buffer.alloc(pieceBytes)

/**
 * Writes zeros from `end` on, the end of the file, until it has `goal` bytes or somewhat more, at most `most`; with a descriptor of O_APPEND
 * as many from where the end is at that moment. Returns where the end is then, if nobody else has moved it. Throws as write(2).
 */
export function extendByZeros(descriptor: number, end: number, goal: number, most = Infinity): number {
  while (end < goal) end += writeSync(descriptor, zeros, 0, Math.min(pieceBytes - (end % pieceBytes), most - end), end)
  return end
}
