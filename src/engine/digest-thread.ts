/**
 * The digest thread: computes digests of content for the thread that writes it, while that one is busy with SQLite.
 * Keeps: it touches nothing but the memory that it was given, writes no file, stands back for the other threads of the process, and ends
 *   with its process.
 * Leaves: what is computed to digests.ts; starting it, by path, to mount/helper-threads.ts.
 */
import { readlinkSync } from 'node:fs'
import { setPriority } from 'node:os'
import { basename } from 'node:path'
import { workerData } from 'node:worker_threads'
import { serveDigests, type DigestMemory } from './digests.ts'

/** The nice value of the thread, setpriority(2): woken, one of 0 ran at once, in the place of the very thread that it works for. */
const niceness = 10

try {
  setPriority(Number(basename(readlinkSync('/proc/thread-self'))), niceness) // by its own number, Linux sets that of the thread alone
} catch {
  // It helps at its given priority as well.
}
await serveDigests(workerData as DigestMemory)
