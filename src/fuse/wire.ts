/**
 * Every struct of the FUSE protocol (`linux/fuse.h`), each as one ordered list of `[field, type]`.
 * Keeps: names, order, offsets and sizes are the header's (test/fuse/wire.test.ts); a nested struct is reserved bytes of its
 * size, coded by its own list.
 * Leaves: how a list becomes decoder and encoder to struct.ts; which request carries which struct to operation-table.ts.
 */
import { struct } from './struct.ts'

/** Part of AttrOut and EntryOut. */
export const attr = struct('attr', [
  ['ino', 'u64'],
  ['size', 'u64'],
  ['blocks', 'u64'],
  ['atime', 'i64'],
  ['mtime', 'i64'],
  ['ctime', 'i64'],
  ['atimensec', 'u32'],
  ['mtimensec', 'u32'],
  ['ctimensec', 'u32'],
  ['mode', 'u32'],
  ['nlink', 'u32'],
  ['uid', 'u32'],
  ['gid', 'u32'],
  ['rdev', 'u32'],
  ['blksize', 'u32'],
  ['flags', 'u32'],
])

/** A request without a struct. */
export const noInput = struct('none', [])

// Headers. `unique` is opaque: its 8 bytes are copied from request to reply.
export const inHeader = struct('in_header', [
  ['len', 'u32'],
  ['opcode', 'u32'],
  ['unique', 'pad8'],
  ['nodeid', 'u64'],
  ['uid', 'u32'],
  ['gid', 'u32'],
  ['pid', 'u32'],
  ['totalExtlen', 'u16'],
  ['padding', 'u16'],
])
export const outHeader = struct('out_header', [
  ['len', 'u32'],
  ['error', 'i32'],
  ['unique', 'pad8'],
])
/** Where `unique` stands in InHeader and in OutHeader. */
export const UNIQUE_AT = 8

// Replies.
export const attrOut = struct('attr_out', [
  ['attrValid', 'u64'],
  ['attrValidNsec', 'u32'],
  ['dummy', 'pad4'],
  ['attr', 'pad88'],
])
/** Where `attr` stands in AttrOut. */
export const ATTR_OUT_ATTR = attrOut.size - attr.size
export const entryOut = struct('entry_out', [
  ['nodeid', 'u64'],
  ['generation', 'u64'],
  ['entryValid', 'u64'],
  ['attrValid', 'u64'],
  ['entryValidNsec', 'u32'],
  ['attrValidNsec', 'u32'],
  ['attr', 'pad88'],
])
/** Where `attr` stands in EntryOut. */
export const ENTRY_OUT_ATTR = entryOut.size - attr.size
/** Linux 6.9 renamed `padding` to `backing_id`, used with PASSTHROUGH only. */
export const openOut = struct('open_out', [
  ['fh', 'u64'],
  ['openFlags', 'u32'],
  ['padding', 'pad4'],
])
export const writeOut = struct('write_out', [
  ['size', 'u32'],
  ['padding', 'pad4'],
])
export const lseekOut = struct('lseek_out', [['offset', 'u64']])
/** Linux 6.18: the answer of COPY_FILE_RANGE_64; that of COPY_FILE_RANGE is WriteOut. */
export const copyFileRangeOut = struct('copy_file_range_out', [['bytesCopied', 'u64']])
/** What INVAL_INODE says: the cached pages from `off` on are invalid, `len` of them or with 0 all. */
export const notifyInvalInodeOut = struct('notify_inval_inode_out', [
  ['ino', 'u64'],
  ['off', 'i64'],
  ['len', 'i64'],
])
/** StatfsOut is nothing but this. */
export const kstatfs = struct('kstatfs', [
  ['blocks', 'u64'],
  ['bfree', 'u64'],
  ['bavail', 'u64'],
  ['files', 'u64'],
  ['ffree', 'u64'],
  ['bsize', 'u32'],
  ['namelen', 'u32'],
  ['frsize', 'u32'],
  ['padding', 'pad4'],
  ['spare', 'pad24'],
])
export const getxattrOut = struct('getxattr_out', [
  ['size', 'u32'],
  ['padding', 'pad4'],
])
export const dirent = struct('dirent', [
  ['ino', 'u64'],
  ['off', 'u64'],
  ['namelen', 'u32'],
  ['type', 'u32'],
])
/** Later kernels took `max_stack_depth` (6.9) and `request_timeout` (6.15) from `unused`; 0 is their default. */
export const initOut = struct('init_out', [
  ['major', 'u32'],
  ['minor', 'u32'],
  ['maxReadahead', 'u32'],
  ['flags', 'u32'],
  ['maxBackground', 'u16'],
  ['congestionThreshold', 'u16'],
  ['maxWrite', 'u32'],
  ['timeGran', 'u32'],
  ['maxPages', 'u16'],
  ['mapAlignment', 'u16'],
  ['flags2', 'u32'],
  ['unused', 'pad28'],
])

// Requests that are served.
/** The first 16 bytes, which every kernel sends; `flags2` follows in `initInExt`. */
export const initIn = struct('init_in', [
  ['major', 'u32'],
  ['minor', 'u32'],
  ['maxReadahead', 'u32'],
  ['flags', 'u32'],
])
/** What a kernel that offers INIT_EXT (5.17) sends after `initIn`. */
export const initInExt = struct('init_in_ext', [
  ['flags2', 'u32'],
  ['unused', 'pad44'],
])
export const forgetIn = struct('forget_in', [['nlookup', 'u64']])
export const forgetOne = struct('forget_one', [
  ['nodeid', 'u64'],
  ['nlookup', 'u64'],
])
export const batchForgetIn = struct('batch_forget_in', [
  ['count', 'u32'],
  ['dummy', 'pad4'],
])
export const getattrIn = struct('getattr_in', [
  ['getattrFlags', 'u32'],
  ['dummy', 'pad4'],
  ['fh', 'u64'],
])
export const setattrIn = struct('setattr_in', [
  ['valid', 'u32'],
  ['padding', 'pad4'],
  ['fh', 'u64'],
  ['size', 'u64'],
  ['lockOwner', 'pad8'],
  ['atime', 'i64'],
  ['mtime', 'i64'],
  ['ctime', 'i64'],
  ['atimensec', 'u32'],
  ['mtimensec', 'u32'],
  ['ctimensec', 'u32'],
  ['mode', 'u32'],
  ['unused4', 'pad4'],
  ['uid', 'u32'],
  ['gid', 'u32'],
  ['unused5', 'pad4'],
])
export const mknodIn = struct('mknod_in', [
  ['mode', 'u32'],
  ['rdev', 'u32'],
  ['umask', 'u32'],
  ['padding', 'pad4'],
])
export const mkdirIn = struct('mkdir_in', [
  ['mode', 'u32'],
  ['umask', 'u32'],
])
export const renameIn = struct('rename_in', [['newdir', 'u64']])
export const rename2In = struct('rename2_in', [
  ['newdir', 'u64'],
  ['flags', 'u32'],
  ['padding', 'pad4'],
])
export const linkIn = struct('link_in', [['oldnodeid', 'u64']])
export const openIn = struct('open_in', [
  ['flags', 'u32'],
  ['openFlags', 'u32'],
])
export const createIn = struct('create_in', [
  ['flags', 'u32'],
  ['mode', 'u32'],
  ['umask', 'u32'],
  ['openFlags', 'u32'],
])
export const releaseIn = struct('release_in', [
  ['fh', 'u64'],
  ['flags', 'u32'],
  ['releaseFlags', 'u32'],
  ['lockOwner', 'pad8'],
])
export const readIn = struct('read_in', [
  ['fh', 'u64'],
  ['offset', 'offset'],
  ['size', 'u32'],
  ['readFlags', 'u32'],
  ['lockOwner', 'pad8'],
  ['flags', 'u32'],
  ['padding', 'pad4'],
])
export const writeIn = struct('write_in', [
  ['fh', 'u64'],
  ['offset', 'offset'],
  ['size', 'u32'],
  ['writeFlags', 'u32'],
  ['lockOwner', 'pad8'],
  ['flags', 'u32'],
  ['padding', 'pad4'],
])
export const fsyncIn = struct('fsync_in', [
  ['fh', 'u64'],
  ['fsyncFlags', 'u32'],
  ['padding', 'pad4'],
])
/** The form of a connection with SETXATTR_EXT, as ours is. */
export const setxattrIn = struct('setxattr_in', [
  ['size', 'u32'],
  ['flags', 'u32'],
  ['setxattrFlags', 'u32'],
  ['padding', 'pad4'],
])
export const getxattrIn = struct('getxattr_in', [
  ['size', 'u32'],
  ['padding', 'pad4'],
])
export const fallocateIn = struct('fallocate_in', [
  ['fh', 'u64'],
  ['offset', 'offset'],
  ['length', 'offset'],
  ['mode', 'u32'],
  ['padding', 'pad4'],
])
export const lseekIn = struct('lseek_in', [
  ['fh', 'u64'],
  ['offset', 'offset'],
  ['whence', 'u32'],
  ['padding', 'pad4'],
])
export const copyFileRangeIn = struct('copy_file_range_in', [
  ['fhIn', 'u64'],
  ['offIn', 'offset'],
  ['nodeidOut', 'u64'],
  ['fhOut', 'u64'],
  ['offOut', 'offset'],
  ['len', 'u64'],
  ['flags', 'u64'],
])
export const interruptIn = struct('interrupt_in', [['unique', 'pad8']])

// Requests that are answered with ENOSYS.
export const flushIn = struct('flush_in', [
  ['fh', 'u64'],
  ['unused', 'pad4'],
  ['padding', 'pad4'],
  ['lockOwner', 'pad8'],
])
export const lkIn = struct('lk_in', [
  ['fh', 'u64'],
  ['owner', 'pad8'],
  ['lk', 'pad24'],
  ['lkFlags', 'u32'],
  ['padding', 'pad4'],
])
export const accessIn = struct('access_in', [
  ['mask', 'u32'],
  ['padding', 'pad4'],
])
export const bmapIn = struct('bmap_in', [
  ['block', 'u64'],
  ['blocksize', 'u32'],
  ['padding', 'pad4'],
])
export const ioctlIn = struct('ioctl_in', [
  ['fh', 'u64'],
  ['flags', 'u32'],
  ['cmd', 'u32'],
  ['arg', 'u64'],
  ['inSize', 'u32'],
  ['outSize', 'u32'],
])
export const pollIn = struct('poll_in', [
  ['fh', 'u64'],
  ['kh', 'u64'],
  ['flags', 'u32'],
  ['events', 'u32'],
])
export const setupmappingIn = struct('setupmapping_in', [
  ['fh', 'u64'],
  ['foffset', 'u64'],
  ['len', 'u64'],
  ['flags', 'u64'],
  ['moffset', 'u64'],
])
export const removemappingIn = struct('removemapping_in', [['count', 'u32']])
export const syncfsIn = struct('syncfs_in', [['padding', 'pad8']])
/** Linux 6.6. */
export const statxIn = struct('statx_in', [
  ['getattrFlags', 'u32'],
  ['reserved', 'pad4'],
  ['fh', 'u64'],
  ['sxFlags', 'u32'],
  ['sxMask', 'u32'],
])
export const notifyRetrieveIn = struct('notify_retrieve_in', [
  ['dummy1', 'pad8'],
  ['offset', 'u64'],
  ['size', 'u32'],
  ['dummy2', 'pad4'],
  ['dummy3', 'pad8'],
  ['dummy4', 'pad8'],
])

/** FUSE_REC_ALIGN: records of variable length are aligned to 8 bytes. */
export function alignRecord(length: number): number {
  return (length + 7) & ~7
}
