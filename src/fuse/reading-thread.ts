/**
 * The reading thread: takes requests out of the device for the serving thread while that one is busy with large writes.
 * Keeps: it touches nothing but the device and the memory that it was given, and ends with its process.
 * Leaves: when it reads to requests-ahead.ts; starting it, by path, to mount/helper-threads.ts.
 */
import { workerData } from 'node:worker_threads'
import { readRequests, type RequestsAheadMemory } from './requests-ahead.ts'

readRequests(workerData as RequestsAheadMemory)
