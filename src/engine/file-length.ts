/**
 * Where a volume file ends, and whether that is where its header says.
 * Format: https://www.sqlite.org/fileformat2.html#in_header_database_size
 * Keeps: a file is only looked at; one that a WAL belongs to is not judged.
 * Leaves: what the pages hold to check.ts.
 */
import { statSync } from 'node:fs'
import { ErrnoError, messageOf, systemCode } from '../base/index.ts'
import { assertOpenable } from './connection.ts'
import { findHeaderFault, headerBytes, readHeader } from './header.ts'

/**
 * Where a volume file that has no WAL ends, if that is not where its header says; undefined when it is, or cannot be said. What follows
 * behind that place SQLite takes for pages as soon as it writes: they would be in every export, and in nothing of the volume.
 * Closes a descriptor of the file: call before this process has a connection on it, whose locks that would drop (fcntl(2)).
 */
export function findLengthFault(file: string): string | undefined {
  const size = sizeOf(file)
  if (size === 0 || !isAlone(file)) return undefined
  const header = readHeader(file)
  const expected = findHeaderFault(header) === undefined ? sizeByHeader(header) : 0
  if (expected === 0 || size === expected) return undefined
  if (size < expected) return `byte ${String(size)}, where the file ends: by its header it has ${String(expected)}`
  return `byte ${String(expected)}, where the file ends by its header: it has ${String(size)}`
}

/** Throws EIO for a volume file that is shorter or longer than its header says. Call as its owner, before its first connection, as above. */
export function assertLength(file: string): void {
  assertOpenable(file)
  const place = naming(file, () => findLengthFault(file))
  if (place === undefined) return
  const hint = 'nothing was changed: restore it from an export; what is too long only because of bytes that are not its own, cut there'
  throw new ErrnoError('EIO', `volume file ${file}: damaged at ${place}`, { hint })
}

/**
 * How many bytes the file has by its header, when that can be said: 0 otherwise.
 * Offset 16: page size (u16 BE, 1: 65536), 24: change counter, 28: pages, 92: the counter for which the pages are right.
 */
function sizeByHeader(header: Buffer): number {
  if (header.length < headerBytes || header.readUInt32BE(24) !== header.readUInt32BE(92)) return 0
  const size = header.readUInt16BE(16)
  return header.readUInt32BE(28) * (size === 1 ? 65_536 : size)
}

/** Runs `work`, and has what it fails with name the file. */
function naming<T>(file: string, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    throw new ErrnoError(systemCode(cause) === 'EACCES' ? 'EACCES' : 'EIO', `volume file ${file}: ${messageOf(cause)}`, { cause })
  }
}

/** Whether the file by itself is the volume: there is nothing in a -wal or a -journal beside it. */
export function isAlone(file: string): boolean {
  return sizeOf(`${file}-wal`) === 0 && sizeOf(`${file}-journal`) === 0
}

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0
}
