/**
 * The first 100 bytes of a volume file, looked at before the rest of it is there.
 * Format: https://www.sqlite.org/fileformat2.html#the_database_header, docs/format.md.
 * Keeps: what passes calls itself a volume of a version that this code knows. Leaves: whether that is true to check.ts.
 */
import { closeSync, openSync, readSync } from 'node:fs'
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
