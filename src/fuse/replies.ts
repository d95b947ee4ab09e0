/**
 * The kinds of reply payload: how a handler's result is laid out behind the reply header.
 * Keeps: every payload fits the reply buffer and has the length that the kernel asked for or allows.
 * Leaves: header and errors to dispatcher.ts, directory listings to listing.ts.
 */
import { ErrnoError } from '../base/index.ts'
import type { Fh } from '../base/index.ts'
import { FOPEN } from './constants.ts'
import type { Attributes, Entry, StatFs } from './filesystem.ts'
import type { InitAnswer } from './negotiate.ts'
import type { Bytes } from './prefaulted.ts'
import {
  ATTR_OUT_ATTR,
  ENTRY_OUT_ATTR,
  attr,
  attrOut,
  copyFileRangeOut,
  entryOut,
  getxattrOut,
  initOut,
  kstatfs,
  lseekOut,
  openOut,
  outHeader,
  writeOut,
} from './wire.ts'

/** How long the kernel may keep entries, attributes and the absence of a name, in seconds. The volume has one owner and
 *  changes through this mount only, so what the kernel holds stays true; a day merely bounds what a mistake could do. */
export const CACHE_SECONDS = 86_400

/** st_blksize: what applications read and write in by default. The page size, as on ext4. */
const BLOCK_SIZE = 4096

/** The length of a payload that is not sent now: somebody else answers the request. */
export const LATER = -1

/** Where the payload begins. */
export const PAYLOAD_AT = outHeader.size

/** A kind of payload. `encode` writes the result behind the header and returns the payload's length in bytes. */
export interface Reply<R> {
  readonly name: string
  /** The payload's only length, or undefined when it varies. */
  readonly size: number | undefined
  encode(reply: Bytes, result: R): number
  /** What the trace says after OK. */
  describe(result: R): string
}

export const nothing: Reply<void> = { name: 'nothing', size: 0, encode: () => 0, describe: () => '' }

/** An entry; undefined becomes a negative entry, which the kernel caches too. */
export const entryReply: Reply<Entry | undefined> = {
  name: 'entry',
  size: entryOut.size,
  encode(reply, entry) {
    encodeEntry(reply.view, PAYLOAD_AT, entry)
    return entryOut.size
  },
  describe: (entry) => (entry === undefined ? 'negative' : `n${entry.nodeid}`),
}

export const attributesReply: Reply<Attributes> = {
  name: 'attributes',
  size: attrOut.size,
  encode(reply, attributes) {
    attrOut.encode(reply.view, PAYLOAD_AT, { attrValid: CACHE_SECONDS, attrValidNsec: 0 })
    encodeAttributes(reply.view, PAYLOAD_AT + ATTR_OUT_ATTR, attributes)
    return attrOut.size
  },
  describe: (attributes) => `i${attributes.ino} ${attributes.mode.toString(8)} ${attributes.size}b`,
}

/** An open file: KEEP_CACHE, since nobody but this mount changes the content. */
export const openReply: Reply<Fh> = {
  name: 'open',
  size: openOut.size,
  encode(reply, fh) {
    openOut.encode(reply.view, PAYLOAD_AT, { fh, openFlags: FOPEN.KEEP_CACHE })
    return openOut.size
  },
  describe: (fh) => `fh${fh}`,
}

export const createReply: Reply<{ entry: Entry; fh: Fh }> = {
  name: 'create',
  size: entryOut.size + openOut.size,
  encode(reply, { entry, fh }) {
    encodeEntry(reply.view, PAYLOAD_AT, entry)
    openOut.encode(reply.view, PAYLOAD_AT + entryOut.size, { fh, openFlags: FOPEN.KEEP_CACHE })
    return entryOut.size + openOut.size
  },
  describe: ({ entry, fh }) => `n${entry.nodeid} fh${fh}`,
}

/** A payload that the handler has put behind the header itself; the result is its length. */
export const filledReply: Reply<number> = {
  name: 'filled',
  size: undefined,
  encode: (_reply, length) => length,
  describe: (length) => `${length}b`,
}

export const bytesReply: Reply<Buffer> = {
  name: 'bytes',
  size: undefined,
  encode: (reply, bytes) => copyPayload(reply, bytes),
  describe: (bytes) => `${bytes.length}b`,
}

export const writtenReply: Reply<number> = {
  name: 'written',
  size: writeOut.size,
  encode(reply, size) {
    writeOut.encode(reply.view, PAYLOAD_AT, { size })
    return writeOut.size
  },
  describe: (size) => `${size}b`,
}

/** LSEEK; undefined when it is answered later (late-seek.ts). */
export const offsetReply: Reply<number | undefined> = {
  name: 'offset',
  size: lseekOut.size,
  encode(reply, offset) {
    if (offset === undefined) return LATER
    lseekOut.encode(reply.view, PAYLOAD_AT, { offset })
    return lseekOut.size
  },
  describe: (offset) => (offset === undefined ? 'later' : `at ${offset}`),
}

/** COPY_FILE_RANGE_64. */
export const copiedReply: Reply<number> = {
  name: 'copied',
  size: copyFileRangeOut.size,
  encode(reply, bytesCopied) {
    copyFileRangeOut.encode(reply.view, PAYLOAD_AT, { bytesCopied })
    return copyFileRangeOut.size
  },
  describe: (bytesCopied) => `${bytesCopied}b`,
}

/** GETXATTR and LISTXATTR: with `room` 0 only the size is asked for. ERANGE when the value is longer than `room`. */
export const xattrReply: Reply<{ value: Buffer; room: number }> = {
  name: 'xattr',
  size: undefined,
  encode(reply, { value, room }) {
    if (room === 0) {
      getxattrOut.encode(reply.view, PAYLOAD_AT, { size: value.length })
      return getxattrOut.size
    }
    if (value.length > room) throw new ErrnoError('ERANGE', `xattr: ${value.length} bytes for a buffer of ${room}`)
    return copyPayload(reply, value)
  },
  describe: ({ value }) => `${value.length}b`,
}

export const statfsReply: Reply<StatFs> = {
  name: 'statfs',
  size: kstatfs.size,
  encode(reply, stat) {
    kstatfs.encode(reply.view, PAYLOAD_AT, {
      blocks: stat.blocks,
      bfree: stat.blocksFree,
      bavail: stat.blocksAvailable,
      files: stat.files,
      ffree: stat.filesFree,
      bsize: stat.blockSize,
      namelen: stat.nameMax,
      frsize: stat.blockSize,
    })
    return kstatfs.size
  },
  describe: (stat) => `${stat.blocksFree}/${stat.blocks}`,
}

export const initReply: Reply<InitAnswer> = {
  name: 'init',
  size: initOut.size,
  encode(reply, answer) {
    initOut.encode(reply.view, PAYLOAD_AT, answer)
    return initOut.size
  },
  describe: (answer) => `${answer.major}.${answer.minor}`,
}

/** Writes an EntryOut at byte `at`; for undefined one with nodeid 0 and nothing but times. */
export function encodeEntry(view: DataView, at: number, entry: Entry | undefined): void {
  entryOut.encode(view, at, {
    nodeid: entry === undefined ? 0 : entry.nodeid,
    generation: 0, // an inode number is never used again, so it needs no second half
    entryValid: CACHE_SECONDS,
    attrValid: CACHE_SECONDS,
    entryValidNsec: 0,
    attrValidNsec: 0,
  })
  if (entry !== undefined) encodeAttributes(view, at + ENTRY_OUT_ATTR, entry.attributes)
}

/** One literal, since spreading parts together cost 300 ns a reply. */
function encodeAttributes(view: DataView, at: number, attributes: Attributes): void {
  const { atime, mtime, ctime } = attributes
  attr.encode(view, at, {
    ino: attributes.ino,
    size: attributes.size,
    blocks: attributes.blocks,
    atime: atime.sec,
    mtime: mtime.sec,
    ctime: ctime.sec,
    atimensec: atime.nsec,
    mtimensec: mtime.nsec,
    ctimensec: ctime.nsec,
    mode: attributes.mode,
    nlink: attributes.nlink,
    uid: attributes.uid,
    gid: attributes.gid,
    rdev: attributes.rdev,
    blksize: BLOCK_SIZE,
    flags: 0,
  })
}

function copyPayload(reply: Bytes, bytes: Buffer): number {
  if (bytes.length > reply.buffer.length - PAYLOAD_AT) throw new ErrnoError('ERANGE', `reply of ${bytes.length} bytes: too long`)
  bytes.copy(reply.buffer, PAYLOAD_AT)
  return bytes.length
}
