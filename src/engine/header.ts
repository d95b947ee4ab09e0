/**
 * The first 100 bytes of a volume file, looked at before the rest of it is there.
 * Format: https://www.sqlite.org/fileformat2.html#the_database_header, docs/format.md.
 * Keeps: what passes calls itself a volume of a version that this code knows. Leaves: whether that is true to check.ts.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { ErrnoError, messageOf, systemCode } from '../base/index.ts'
import { assertOpenable } from './connection.ts'
import { applicationId, schemaVersion } from './schema.ts'

export const headerBytes = 100

const magic = Buffer.from('SQLite format 3\0')

/** The first bytes of a file; fewer when it has no more. */
export function readHeader(file: string): Buffer {
  const fd = openSync(file, 'r')
  try {
    const header = Buffer.alloc(headerBytes)
    return header.subarray(0, readSync(fd, header, 0, headerBytes, 0))
  } finally {
    closeSync(fd)
  }
}

/** What is wrong with a header: where, and what; `isNewer` when only its version is. */
export interface HeaderFault {
  readonly place: string
  readonly fault: string
  readonly isNewer: boolean
}

/** Looks at the first bytes of a file: fewer than 100 only when it has no more. Returns undefined when they are in order. */
export function findHeaderFault(header: Buffer): HeaderFault | undefined {
  const wrong = (place: string, fault: string, isNewer = false): HeaderFault => ({ place, fault, isNewer })
  if (header.length === 0) return wrong('byte 0', 'it is empty')
  if (!header.subarray(0, magic.length).equals(magic)) return wrong('byte 0', 'it is no SQLite file')
  if (header.length < headerBytes) return wrong(`byte ${String(header.length)}`, 'it ends within its header')
  const id = header.readUInt32BE(68)
  if (id !== applicationId) return wrong('byte 68', `it is an SQLite file but not a litevol volume: application_id is 0x${id.toString(16)}`)
  const version = header.readUInt32BE(60)
  if (version < 1) return wrong('byte 60', 'format version 0 is damaged')
  if (version <= schemaVersion) return undefined
  return wrong('byte 60', `format version ${String(version)} is newer than this litevol, which knows ${String(schemaVersion)}`, true)
}

/**
 * Where a volume file that has no WAL ends, if that is not where its header says; undefined when it is, or cannot be said. What follows
 * behind that place SQLite takes for pages as soon as it writes: they would be in every export, and in nothing of the volume.
 * Closes a descriptor of the file: call before this process has a connection on it, whose locks that would drop (fcntl(2)).
 */
export function findLengthFault(file: string): string | undefined {
  const size = sizeOf(file)
  if (size === 0 || ['-wal', '-journal'].some((suffix) => sizeOf(file + suffix) > 0)) return undefined
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

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0
}
