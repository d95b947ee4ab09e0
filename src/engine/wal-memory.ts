/**
 * The -wal file in the kernel's page cache. Frames begin within pages: one that is written over a page which was dropped from there has that
 * page read first. Measured, 254 transactions of a database a second, 493 with a WAL that has to grow.
 * Keeps: it only reads; that a page is in memory is a guess, by how long reading it takes.
 * Leaves: whether a WAL is worth its memory and its disk space to who decides on checkpoints.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'

/** One page is looked at for each stretch of so many bytes. */
const stretchBytes = 1 << 20

/** Reading a byte took 1 to 5 µs where its page was in memory, 40 to 50 from the disk (128 of each, measured); in ms. */
const memoryMs = 0.02

const byte = Buffer.alloc(1)

/** Whether most of a -wal file is in memory, as far as can be said in about `withinMs`. Throws what opening it does. */
export function isInMemory(wal: string, withinMs: number): boolean {
  let balance = 0
  eachStretch(wal, withinMs, (isThere) => {
    balance += isThere ? 1 : -1
  })
  return balance >= 0
}

/** Reads what of a -wal file is not in memory, as far as it gets in about `withinMs`: whoever calls waits. Throws what opening it does. */
export function bringIntoMemory(wal: string, withinMs: number): void {
  const stretch = Buffer.alloc(stretchBytes)
  eachStretch(wal, withinMs, (isThere, descriptor, start) => {
    if (!isThere) readSync(descriptor, stretch, 0, stretchBytes, start)
  })
}

/** Calls `visit` for each stretch, until the time is over, with whether a page of it, another one each time, is in memory. */
function eachStretch(wal: string, withinMs: number, visit: (isThere: boolean, descriptor: number, start: number) => void): void {
  const deadline = performance.now() + withinMs
  const descriptor = openSync(wal, 'r') // SQLite takes no lock on it that closing could drop
  try {
    const { size } = fstatSync(descriptor)
    for (let start = 0; start < size && performance.now() < deadline; start += stretchBytes) {
      const place = start + Math.floor(Math.random() * Math.min(stretchBytes, size - start))
      const startedAt = performance.now()
      readSync(descriptor, byte, 0, 1, place)
      visit(performance.now() - startedAt < memoryMs, descriptor, start)
    }
  } finally {
    closeSync(descriptor)
  }
}
