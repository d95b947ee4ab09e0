/**
 * READDIR and READDIRPLUS: fills the reply with directory records up to the size that the kernel asked for.
 * Keeps: an inode's nlookup is counted only for a record that is in the reply, never for `.` and `..`.
 * Leaves: the order of entries and the meaning of cookies to the Filesystem.
 */
import { ErrnoError } from '../base/index.ts'
import type { DirectoryEntry, Entry } from './filesystem.ts'
import { PAYLOAD_AT, encodeEntry } from './replies.ts'
import type { Bytes } from './prefaulted.ts'
import type { Call } from './request.ts'
import { alignRecord, dirent, entryOut } from './wire.ts'

/** Lists `call.nodeid` from `cookie` on, at most `size` bytes, behind the reply header; returns the bytes filled. */
export function fillListing(call: Call, cookie: number, size: number, isPlus: boolean): number {
  const end = PAYLOAD_AT + Math.min(size, call.reply.buffer.length - PAYLOAD_AT)
  let at = PAYLOAD_AT
  const visit = (found: DirectoryEntry): boolean => {
    const next = at + recordSize(found, isPlus)
    if (next > end) return false
    if (isPlus) encodeEntry(call.reply.view, at, entryFor(call, found))
    putDirent(call.reply, isPlus ? at + entryOut.size : at, next, found)
    at = next
    return true
  }
  try {
    call.fs.readdir(call.nodeid, cookie, visit)
  } catch (error) {
    // What is filled was counted already: hand it over. The next READDIR starts at the fault and meets it again.
    if (at === PAYLOAD_AT || !(error instanceof ErrnoError)) throw error
  }
  return at - PAYLOAD_AT
}

function recordSize(found: DirectoryEntry, isPlus: boolean): number {
  return alignRecord((isPlus ? entryOut.size : 0) + dirent.size + found.name.length)
}

/** The entry that READDIRPLUS sends along. undefined becomes nodeid 0: the kernel takes the name and looks it up when
 *  needed, which then shows the fault of an inode that cannot be read. */
function entryFor(call: Call, found: DirectoryEntry): Entry | undefined {
  if (isDots(found.name)) return undefined
  try {
    return call.fs.entry(found.ino)
  } catch (error) {
    if (error instanceof ErrnoError) return undefined
    throw error
  }
}

function putDirent(reply: Bytes, at: number, next: number, { ino, cookie, name, type }: DirectoryEntry): void {
  dirent.encode(reply.view, at, { ino, off: cookie, namelen: name.length, type })
  name.copy(reply.buffer, at + dirent.size)
  reply.buffer.fill(0, at + dirent.size + name.length, next)
}

function isDots(name: Buffer): boolean {
  const dot = 0x2e
  return name[0] === dot && (name.length === 1 || (name.length === 2 && name[1] === dot))
}
