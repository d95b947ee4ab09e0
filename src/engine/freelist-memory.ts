/**
 * The free pages' lists in the kernel's page cache. Each trunk page of the freelist names a thousand free pages and the next trunk; SQLite reads
 * one when the one before is used up, in the middle of somebody's write: of a row of 512 MiB over deleted files, after dropped caches, a seventh
 * of the time was waiting for 130 of them.
 * Keeps: it only reads, of the volume file alone; what a WAL has newer is not followed, so that what is read may be in vain.
 * Format: https://www.sqlite.org/fileformat2.html#the_freelist
 */
import { readSync } from 'node:fs'

/** Where page 1 has the number of the first trunk page. */
const firstTrunkAt = 32

/** Of a trunk page: the next one's number, then how many others it names. */
const trunkHeadBytes = 8

const head = Buffer.alloc(trunkHeadBytes)

/**
 * Reads as many trunk pages as name `bytes` of free pages, in the order in which they are used up, as far as it gets in about `withinMs`:
 * whoever calls waits. Returns how many were read. Throws what read(2) does.
 */
export function bringFreelistIntoMemory(
  descriptor: number,
  pageSize: number,
  { bytes, withinMs }: { readonly bytes: number; readonly withinMs: number },
): number {
  const deadline = performance.now() + withinMs
  const mostNamed = pageSize / 4 - 2
  let trunks = 0
  let named = 0
  let trunk = readSync(descriptor, head, 0, 4, firstTrunkAt) === 4 ? head.readUInt32BE(0) : 0
  while (trunk !== 0 && named * pageSize < bytes && performance.now() < deadline) {
    if (readSync(descriptor, head, 0, trunkHeadBytes, (trunk - 1) * pageSize) < trunkHeadBytes) break
    const count = head.readUInt32BE(4)
    if (count > mostNamed) break // it is no trunk any more
    trunk = head.readUInt32BE(0)
    trunks++
    named += 1 + count
  }
  return trunks
}
