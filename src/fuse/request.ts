/**
 * A request as it lies in the read buffer: header, struct, names, data; and what a handler is given of it.
 * Keeps: no byte outside the request is read; names are copies, `data` is a view that dies with the call.
 * Leaves: the struct after the header to the operation's row, the answer to replies.ts.
 */
import { ErrnoError } from '../base/index.ts'
import type { Caller, Nodeid } from '../base/index.ts'
import type { Filesystem } from './filesystem.ts'
import type { LateSeek } from './late-seek.ts'
import type { InitAnswer, InitOffer } from './negotiate.ts'
import type { Bytes } from './prefaulted.ts'
import { inHeader } from './wire.ts'

/** What a handler sees besides its struct. One object per session, filled anew for each request. */
export interface Call {
  readonly fs: Filesystem
  /** Answers INIT and keeps what was agreed on. */
  readonly initialise: (offer: InitOffer) => InitAnswer
  /** Leaves the answer to late-seek.ts; undefined when nobody is there for it. */
  readonly postpone: ((seek: Omit<LateSeek, 'unique'>) => void) | undefined
  /** Has the kernel ask for the attributes of an inode again: a change of content has cleared setuid and setgid. */
  readonly forgetAttributes: (nodeid: Nodeid) => void
  readonly reply: Bytes
  nodeid: Nodeid
  caller: Caller
  /** Of a resent request that a predecessor has committed: the inode that its answer names, or 0. Else undefined. */
  committed: number | undefined
  /** The first and the second name, without NUL; empty when the operation has none. Copies: the handler may keep them. */
  name: Buffer
  secondName: Buffer
  /** What follows struct and names: a view of the read buffer, which the next request overwrites. */
  data: Buffer
}

const noBytes = Buffer.alloc(0)
const nobody: Caller = { uid: 0, gid: 0, pid: 0 }

/** The call object of a session, empty. */
export function makeCall(parts: Pick<Call, 'fs' | 'initialise' | 'postpone' | 'forgetAttributes' | 'reply'>): Call {
  return { ...parts, nodeid: 1 as Nodeid, caller: nobody, committed: undefined, name: noBytes, secondName: noBytes, data: noBytes }
}

/**
 * Fills `call` from the request of `length` bytes at the start of `request`: header fields, names and data of an
 * operation with a struct of `structSize` bytes and `names` names. Throws EINVAL when it is too short for them, or its
 * own length differs from `length`.
 */
export function fillCall(call: Call, request: Bytes, length: number, structSize: number, names: number): void {
  const header = inHeader.decode(request.view, 0)
  // Extensions (security context, supplementary groups) come last; we ask for none, but a later kernel may send them.
  const end = length - header.totalExtlen * 8
  const namesAt = inHeader.size + structSize
  if (header.len !== length || end < namesAt) throw new ErrnoError('EINVAL', `request of ${length} bytes: impossible length`)
  call.nodeid = header.nodeid as Nodeid
  call.caller = { uid: header.uid, gid: header.gid, pid: header.pid }
  call.name = noBytes
  call.secondName = noBytes
  let at = namesAt
  if (names > 0) {
    call.name = copyName(request.buffer, at, end)
    at += call.name.length + 1
  }
  if (names > 1) {
    call.secondName = copyName(request.buffer, at, end)
    at += call.secondName.length + 1
  }
  call.data = at < end ? request.buffer.subarray(at, end) : noBytes
}

function copyName(buffer: Buffer, start: number, end: number): Buffer {
  const stop = buffer.indexOf(0, start)
  if (stop < 0 || stop >= end) throw new ErrnoError('EINVAL', 'request: a name without its end')
  return Buffer.from(buffer.subarray(start, stop))
}
