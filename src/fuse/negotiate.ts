/**
 * The answer to INIT: what we ask of the kernel, out of what it offers.
 * Keeps: nothing is asked for that was not offered; locks and permissions stay the kernel's matter.
 * Leaves: decoding and encoding of the structs to wire.ts, what a flag changes in the requests to operation-table.ts.
 */
import { ErrnoError } from '../base/index.ts'
import { OLDEST_MINOR, PROTOCOL_MAJOR, PROTOCOL_MINOR, initBits } from './constants.ts'
import type { InitFlag } from './constants.ts'

/** The largest WRITE and READ payload: 256 pages of 4 KiB, the kernel's own default limit (fs.fuse.max_pages_limit). */
export const MAX_WRITE = 1 << 20
const MAX_PAGES = 256
/** Without MAX_PAGES (before Linux 4.20) a request carries at most 32 pages. */
const MAX_WRITE_WITHOUT_MAX_PAGES = 1 << 17

/** Requests of read-ahead and write-back that may wait at once, and the number from which the kernel holds writers back.
 *  We answer one after the other: more of them would only queue, fewer would leave us idle between two. */
const MAX_BACKGROUND = 64
const CONGESTION_THRESHOLD = 48

/** What we ask for, in the order of the bits, each with its reason. */
const wanted: readonly InitFlag[] = [
  'ASYNC_READ', // read-ahead sends several READs at once
  'ATOMIC_O_TRUNC', // open(O_TRUNC) is one request; needs OPEN to be served
  'EXPORT_SUPPORT', // NFS handles: `lookup` answers `.` and `..`
  'BIG_WRITES', // more than 4 KiB a WRITE
  'DONT_MASK', // the umask comes along: with a default access control list it does not count
  'DO_READDIRPLUS', // a listing brings the entries along …
  'READDIRPLUS_AUTO', // … when somebody looks at them
  'ASYNC_DIO', // O_DIRECT in parallel
  'WRITEBACK_CACHE', // write(2) ends in the page cache, which sends large WRITEs later
  'PARALLEL_DIROPS', // lookups in one directory do not wait for each other
  'POSIX_ACL', // the kernel evaluates access control lists
  'MAX_PAGES', // 1 MiB a request instead of 128 KiB
  'CACHE_SYMLINKS', // the volume has one owner, so a symlink's target never changes
  'NO_OPENDIR_SUPPORT', // no request for opendir, and the kernel caches listings
  'HANDLE_KILLPRIV_V2', // the kernel says when setuid and setgid go, instead of asking for security.capability at each write
  'SETXATTR_EXT', // who may not keep setgid when an access control list is set
  'INIT_EXT', // flags2
  'HAS_RESEND', // a successor of a dead FUSE process gets the open requests again
]

/** What we cannot serve without: structs and permissions would be others. Linux 5.13 has them all. */
const needed: readonly InitFlag[] = ['DONT_MASK', 'POSIX_ACL', 'HANDLE_KILLPRIV_V2', 'SETXATTR_EXT']

/** The kernel's INIT: `flags2` is 0 without INIT_EXT. */
export interface InitOffer {
  readonly major: number
  readonly minor: number
  readonly maxReadahead: number
  readonly flags: number
  readonly flags2: number
}

/** The fields of InitOut. */
export interface InitAnswer {
  readonly major: number
  readonly minor: number
  readonly maxReadahead: number
  readonly flags: number
  readonly maxBackground: number
  readonly congestionThreshold: number
  readonly maxWrite: number
  readonly timeGran: number
  readonly maxPages: number
  readonly mapAlignment: number
  readonly flags2: number
}

/** What was agreed on for this connection; plain data, to be handed to a successor that will see no INIT. */
export interface Negotiated {
  /** The kernel's protocol version: `7.45`. */
  readonly kernel: string
  /** The flags in force, by name, in the order of their bits. */
  readonly flags: readonly InitFlag[]
  /** The largest WRITE payload in bytes. */
  readonly maxWrite: number
  /** The kernel can send unanswered requests again (Linux 6.9). */
  readonly hasResend: boolean
}

/**
 * Answers the kernel's `offer`. `negotiated` is undefined when the kernel's major version is above ours: it then reads
 * only our version from the answer and sends a second INIT ("Version negotiation" in linux/fuse.h). Flags in `declined` are not
 * asked for. Throws EPROTO for a kernel older than Linux 5.13.
 */
export function negotiate(
  offer: InitOffer,
  declined: readonly InitFlag[] = [],
): { answer: InitAnswer; negotiated: Negotiated | undefined } {
  if (offer.major > PROTOCOL_MAJOR) return { answer: answerWith([], offer, 0), negotiated: undefined }
  const missing = needed.filter((flag) => !isOffered(offer, flag))
  if (offer.major < PROTOCOL_MAJOR || offer.minor < OLDEST_MINOR || missing.length > 0) {
    const spoken = [`FUSE ${offer.major}.${offer.minor}`, ...missing.map((flag) => `without ${flag}`)].join(' ')
    throw new ErrnoError('EPROTO', `kernel speaks ${spoken}: at least ${PROTOCOL_MAJOR}.${OLDEST_MINOR} is needed (Linux 5.13)`)
  }
  const flags = wanted.filter((flag) => isOffered(offer, flag) && !declined.includes(flag))
  const maxWrite = flags.includes('MAX_PAGES') ? MAX_WRITE : MAX_WRITE_WITHOUT_MAX_PAGES
  const hasResend = flags.includes('HAS_RESEND')
  return {
    answer: answerWith(flags, offer, maxWrite),
    negotiated: { kernel: `${offer.major}.${offer.minor}`, flags, maxWrite, hasResend },
  }
}

function isOffered(offer: InitOffer, flag: InitFlag): boolean {
  const bit = initBits[flag]
  if (bit < 32) return ((offer.flags >>> bit) & 1) === 1
  const isExtended = ((offer.flags >>> initBits.INIT_EXT) & 1) === 1
  return isExtended && ((offer.flags2 >>> (bit - 32)) & 1) === 1
}

function answerWith(flags: readonly InitFlag[], offer: InitOffer, maxWrite: number): InitAnswer {
  return {
    major: PROTOCOL_MAJOR,
    minor: PROTOCOL_MINOR,
    maxReadahead: offer.maxReadahead,
    flags: maskOf(flags, 0),
    maxBackground: MAX_BACKGROUND,
    congestionThreshold: CONGESTION_THRESHOLD,
    maxWrite,
    timeGran: 1,
    maxPages: flags.includes('MAX_PAGES') ? MAX_PAGES : 0,
    mapAlignment: 0,
    flags2: maskOf(flags, 32),
  }
}

/** The 32-bit word of the flags whose bits are `from` to `from + 31`. */
function maskOf(flags: readonly InitFlag[], from: number): number {
  let mask = 0
  for (const flag of flags) {
    const bit = initBits[flag] - from
    if (bit >= 0 && bit < 32) mask |= 1 << bit
  }
  return mask >>> 0
}
