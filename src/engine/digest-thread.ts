/**
 * The digest thread: computes digests of content for the thread that writes it, while that one is busy with SQLite.
 * Keeps: it touches nothing but the memory that it was given, opens no file, and ends with its process.
 * Leaves: what is computed to digests.ts; starting it, by path, to mount/digest-helper.ts.
 */
import { workerData } from 'node:worker_threads'
import { serveDigests, type DigestMemory } from './digests.ts'

serveDigests(workerData as DigestMemory)
