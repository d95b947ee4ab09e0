/** Comparing times of inodes. */
import assert from 'node:assert/strict'
import type { Process, Time } from './process.ts'

const nanoseconds = ([seconds, rest]: Time): bigint => BigInt(seconds) * 1_000_000_000n + BigInt(rest)

export const isLater = (time: Time, than: Time): boolean => nanoseconds(time) > nanoseconds(than)

type Name = 'atime' | 'mtime' | 'ctime'

/** Asserts which times of `path` the `work` moves forward: those named, and no other. */
export async function assertMoves(process: Process, path: string, moved: readonly Name[], work: () => Promise<unknown>): Promise<void> {
  const before = await process.lstat(path)
  await process.waitTick()
  await work()
  const after = await process.lstat(path)
  for (const name of ['atime', 'mtime', 'ctime'] as const) {
    if (moved.includes(name)) assert.ok(isLater(after[name], before[name]), `${name} of ${path} did not move`)
    else assert.deepEqual(after[name], before[name], `${name} of ${path}`)
  }
}
