/**
 * The handlers of operation-table.ts that need more than one line: from the fields of a request to a call of Filesystem.
 * Keeps: every flag of the protocol is understood here; the Filesystem sees plain values.
 * Leaves: decoding of structs to wire.ts, replies to replies.ts.
 */
import { ErrnoError, O_TRUNC } from '../base/index.ts'
import type { Fh, Nodeid, Timestamp } from '../base/index.ts'
import { FATTR, SEEK, SETXATTR_ACL_KILL_SGID, WRITE, initBits } from './constants.ts'
import type { AttributeChanges, Attributes, Entry, Maker } from './filesystem.ts'
import type { InitAnswer } from './negotiate.ts'
import { PAYLOAD_AT } from './replies.ts'
import type { Call } from './request.ts'
import type { Struct } from './struct.ts'
import { forgetOne, initInExt } from './wire.ts'
import type {
  batchForgetIn,
  copyFileRangeIn,
  createIn,
  fallocateIn,
  initIn,
  lseekIn,
  readIn,
  setattrIn,
  setxattrIn,
  writeIn,
} from './wire.ts'

/** The decoded form of a struct. */
export type Decoded<S> = S extends Struct<infer V> ? V : never

/** INIT: `flags2` follows when the kernel offers INIT_EXT. */
export function init(call: Call, input: Decoded<typeof initIn>): InitAnswer {
  const isExtended = ((input.flags >>> initBits.INIT_EXT) & 1) === 1 && call.data.length >= initInExt.size
  const flags2 = isExtended ? initInExt.decode(viewOf(call.data), 0).flags2 : 0
  return call.initialise({ ...input, flags2 })
}

/** BATCH_FORGET: `count` ForgetOne records follow. */
export function batchForget(call: Call, { count }: Decoded<typeof batchForgetIn>): void {
  const present = Math.min(count, Math.floor(call.data.length / forgetOne.size))
  const view = viewOf(call.data)
  for (let i = 0; i < present; i++) {
    const { nodeid, nlookup } = forgetOne.decode(view, i * forgetOne.size)
    call.fs.forget(nodeid as Nodeid, nlookup)
  }
}

/** SETATTR. Throws EFBIG for a size past 2^53 - 1. */
export function setattr(call: Call, input: Decoded<typeof setattrIn>): Attributes {
  const has = (bit: number): boolean => (input.valid & bit) !== 0
  const changes: AttributeChanges = {}
  if (has(FATTR.MODE)) changes.mode = input.mode
  if (has(FATTR.UID)) changes.uid = input.uid
  if (has(FATTR.GID)) changes.gid = input.gid
  if (has(FATTR.SIZE)) changes.size = checkSize(input.size)
  if (has(FATTR.ATIME)) changes.atime = has(FATTR.ATIME_NOW) ? 'now' : time(input.atime, input.atimensec)
  if (has(FATTR.MTIME)) changes.mtime = has(FATTR.MTIME_NOW) ? 'now' : time(input.mtime, input.mtimensec)
  if (has(FATTR.CTIME)) changes.ctime = time(input.ctime, input.ctimensec)
  if (has(FATTR.KILL_SUIDGID)) changes.killPrivileges = true
  return call.fs.setattr(call.caller, call.nodeid, changes)
}

/** READ, straight into the reply. Throws EINVAL for more than a reply holds: a shorter answer would mean end of file. */
export function read(call: Call, { offset, size }: Decoded<typeof readIn>): number {
  const { buffer } = call.reply
  if (size > buffer.length - PAYLOAD_AT) throw new ErrnoError('EINVAL', `read of ${size} bytes: more than a reply holds`)
  return call.fs.read(call.nodeid, offset, buffer.subarray(PAYLOAD_AT, PAYLOAD_AT + size))
}

/** WRITE. Throws EINVAL when fewer bytes came than announced. */
export function write(call: Call, { offset, size, writeFlags }: Decoded<typeof writeIn>): number {
  const fromCache = (writeFlags & WRITE.CACHE) !== 0
  const killPrivileges = (writeFlags & WRITE.KILL_SUIDGID) !== 0
  call.fs.write(call.nodeid, offset, dataOf(call, size), { fromCache, killPrivileges })
  if (killPrivileges) call.forgetAttributes(call.nodeid)
  return size
}

/** SETXATTR. The value is a copy. */
export function setxattr(call: Call, { size, flags, setxattrFlags }: Decoded<typeof setxattrIn>): void {
  const clearSetgid = (setxattrFlags & SETXATTR_ACL_KILL_SGID) !== 0
  call.fs.setxattr(call.nodeid, call.name, Buffer.from(dataOf(call, size)), { flags, clearSetgid })
}

/** LSEEK: the kernel does all but two by itself. Undefined while somebody may have dirty pages of the file: answered later. */
export function seek(call: Call, { offset, whence }: Decoded<typeof lseekIn>): number | undefined {
  if (whence !== SEEK.DATA && whence !== SEEK.HOLE) throw new ErrnoError('EINVAL', `lseek: whence ${whence} is neither data nor hole`)
  const target = whence === SEEK.DATA ? 'data' : 'hole'
  if (call.postpone === undefined || !call.fs.hasWriters(call.nodeid)) return call.fs.seek(call.nodeid, offset, target)
  call.postpone({ nodeid: call.nodeid, offset, target })
  return undefined
}

/** COPY_FILE_RANGE and its 64-bit form; no flags are defined. */
export function copyRange(call: Call, { offIn, nodeidOut, offOut, len, flags }: Decoded<typeof copyFileRangeIn>): number {
  if (flags !== 0) throw new ErrnoError('EINVAL', `copy_file_range: unknown flags ${flags}`)
  const killPrivileges = mayNotKeepPrivileges(call)
  const copied = call.fs.copyRange(call.nodeid, offIn, nodeidOut as Nodeid, offOut, len, killPrivileges)
  if (killPrivileges) call.forgetAttributes(nodeidOut as Nodeid)
  return copied
}

/** FALLOCATE. */
export function fallocate(call: Call, { offset, length, mode }: Decoded<typeof fallocateIn>): void {
  const killPrivileges = mayNotKeepPrivileges(call)
  call.fs.fallocate(call.nodeid, offset, length, mode, killPrivileges)
  if (killPrivileges) call.forgetAttributes(call.nodeid)
}

/** Whether a change of content by the caller clears setuid and setgid. FALLOCATE and COPY_FILE_RANGE have no flag for it, as WRITE
 *  has, and the kernel leaves it to us (HANDLE_KILLPRIV_V2): who has CAP_FSETID is not told, so root stands for it. */
const mayNotKeepPrivileges = ({ caller }: Call): boolean => caller.uid !== 0

/** Who makes an inode: the umask comes with the request (DONT_MASK). */
export const maker = ({ caller }: Call, { umask }: { readonly umask: number }): Maker => ({ ...caller, umask })

/** TMPFILE is sent as a CREATE whose name means nothing (`/`). */
export function tmpfile(call: Call, input: Decoded<typeof createIn>) {
  return call.fs.tmpfile(maker(call, input), call.nodeid, input.mode, input.flags)
}

/** CREATE or TMPFILE once more: the file is there, and is opened. */
export function reopen(call: Call, { flags }: Decoded<typeof createIn>, ino: number): { entry: Entry; fh: Fh } {
  const entry = call.fs.entry(ino)
  return { entry, fh: call.fs.open(entry.nodeid, flags & ~O_TRUNC, false) }
}

function dataOf(call: Call, size: number): Buffer {
  if (call.data.length < size) throw new ErrnoError('EINVAL', `request of ${size} bytes of data carries ${call.data.length}`)
  return call.data.length === size ? call.data : call.data.subarray(0, size)
}

function checkSize(size: number): number {
  if (size <= Number.MAX_SAFE_INTEGER) return size
  throw new ErrnoError('EFBIG', `size ${size}: past 2^53 - 1`)
}

/** Seconds past what a number holds exactly are cut to that, as Linux cuts them to what a filesystem can store. Throws EINVAL, utimensat(2). */
function time(sec: number, nsec: number): Timestamp {
  if (nsec > 999_999_999) throw new ErrnoError('EINVAL', `time: ${nsec} nanoseconds are more than a second`)
  return { sec: Math.min(Number.MAX_SAFE_INTEGER, Math.max(Number.MIN_SAFE_INTEGER, sec)), nsec }
}

const viewOf = (bytes: Buffer): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
