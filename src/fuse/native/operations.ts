/**
 * The callbacks of fuse-native, one row each: from its arguments to a call of PathFilesystem, and what its signal takes in return.
 * Keeps: a reply is never larger than the room for it, whatever was stored meanwhile; every signal gets what it reads, errors too.
 * Leaves: errors and who waits to native-mount.ts.
 *
 * What libfuse 2.9 calls, and when: fuse.h and fuse.c of libfuse 2.9.9. Arguments and signals: fuse-native.c of fuse-native 2.2.6.
 */
import { ErrnoError } from '../../base/index.ts'
import type { Timestamp } from '../../base/index.ts'
import type { AttributeChanges, Attributes } from '../filesystem.ts'
import type { OperationName, WaitingThread } from './addon.ts'
import type { PathFilesystem } from './path-filesystem.ts'
import { entryRecord, statRecord, statfsRecord } from './records.ts'

/** The arguments of each callback. 64 bits come as two words, the low one first. */
interface Arguments {
  init: []
  statfs: [path: string]
  getattr: [path: string]
  fgetattr: [path: string, fh: number]
  fsync: [path: string]
  fsyncdir: [path: string]
  readdir: [path: string]
  truncate: [path: string, low: number, high: number]
  ftruncate: [path: string, fh: number, low: number, high: number]
  utimens: [path: string, atimeLow: number, atimeHigh: number]
  readlink: [path: string]
  chown: [path: string, uid: number, gid: number]
  chmod: [path: string, mode: number]
  mknod: [path: string, mode: number, rdev: number]
  setxattr: [path: string, name: string, value: Buffer, position: number, flags: number]
  getxattr: [path: string, name: string, room: Buffer]
  listxattr: [path: string, room: Buffer]
  removexattr: [path: string, name: string]
  open: [path: string, flags: number]
  read: [path: string, fh: number, into: Buffer, length: number, low: number, high: number]
  write: [path: string, fh: number, data: Buffer, length: number, low: number, high: number]
  release: [path: string, fh: number]
  create: [path: string, mode: number]
  unlink: [path: string]
  rename: [path: string, newPath: string]
  link: [path: string, newPath: string]
  symlink: [target: string, path: string]
  mkdir: [path: string, mode: number]
  rmdir: [path: string]
}

/** What answers: the result (0 or a count), then what the signal hands out. */
export type Answer = readonly [result: number, ...given: readonly unknown[]]

/** One callback. */
export interface Operation<A extends readonly unknown[] = readonly unknown[]> {
  serve(args: A, thread: WaitingThread): Answer
  /** What goes along with an error. */
  onError(args: A): readonly unknown[]
}

type Operations = { readonly [N in OperationName]: Operation<Arguments[N]> }

/** An operation that hands nothing out. */
function plain<A extends readonly unknown[]>(run: (args: A, thread: WaitingThread) => void): Operation<A> {
  const serve = (args: A, thread: WaitingThread): Answer => {
    run(args, thread)
    return [0]
  }
  return { serve, onError: () => [] }
}

/** An operation that hands out a record, text or number; `none` stands for it in an error. */
function giving<A extends readonly unknown[]>(run: (args: A) => unknown, none: unknown): Operation<A> {
  return { serve: (args) => [0, run(args)], onError: () => [none] }
}

/** An operation on memory of libfuse, which fuse-native wants back with the answer; the result is a count of bytes. */
function onMemory<A extends readonly unknown[]>(run: (args: A) => number, memoryOf: (args: A) => readonly unknown[]): Operation<A> {
  return { serve: (args) => [run(args), ...memoryOf(args)], onError: memoryOf }
}

/** All callbacks over one filesystem. */
export function makeOperations(fs: PathFilesystem): Operations {
  return { ...inodeOperations(fs), ...nameOperations(fs), ...fileOperations(fs), ...attributeOperations(fs), init: plain(() => undefined) }
}

function inodeOperations(fs: PathFilesystem) {
  const stat = <A extends readonly unknown[]>(run: (args: A) => Attributes): Operation<A> =>
    giving((args: A) => statRecord(run(args)), statRecord(undefined))
  const change = <A extends readonly [path: string, ...unknown[]]>(changes: (args: A, thread: WaitingThread) => AttributeChanges) =>
    plain((args: A, thread) => {
      fs.setattr(args[0], changes(args, thread))
    })
  return {
    statfs: giving<Arguments['statfs']>(() => statfsRecord(fs.statfs()), statfsRecord(undefined)),
    getattr: stat<Arguments['getattr']>(([path]) => fs.getattr(path)),
    fgetattr: stat<Arguments['fgetattr']>(([, fh]) => fs.getattrOpen(fh)),
    chmod: change<Arguments['chmod']>(([, mode]) => ({ mode: mode & 0o7777 })),
    chown: change<Arguments['chown']>(([, uid, gid]) => ({ ...(uid === unchanged ? {} : { uid }), ...(gid === unchanged ? {} : { gid }) })),
    truncate: change<Arguments['truncate']>(([, low, high]) => ({ size: wide(low, high) })),
    utimens: change<Arguments['utimens']>(([, low, high], thread) => timesOf(wide(low, high), thread)),
  }
}

function nameOperations(fs: PathFilesystem) {
  return {
    readlink: giving<Arguments['readlink']>(([path]) => fs.readlink(path), ''),
    mknod: plain<Arguments['mknod']>(([path, mode, rdev]) => { fs.mknod(path, mode, rdev) }), // prettier-ignore
    mkdir: plain<Arguments['mkdir']>(([path, mode]) => { fs.mkdir(path, mode & 0o7777) }), // prettier-ignore
    symlink: plain<Arguments['symlink']>(([target, path]) => { fs.symlink(target, path) }), // prettier-ignore
    link: plain<Arguments['link']>(([path, newPath]) => { fs.link(path, newPath) }), // prettier-ignore
    unlink: plain<Arguments['unlink']>(([path]) => { fs.unlink(path) }), // prettier-ignore
    rmdir: plain<Arguments['rmdir']>(([path]) => { fs.rmdir(path) }), // prettier-ignore
    rename: plain<Arguments['rename']>(([path, newPath]) => { fs.rename(path, newPath) }), // prettier-ignore
    readdir: {
      serve([path]): Answer {
        const entries = fs.list(path)
        return [0, entries.map(({ name }) => name.toString()), entries.map(({ ino, type }) => entryRecord(ino, type << 12))]
      },
      onError: () => [[], []],
    } satisfies Operation<Arguments['readdir']>,
  }
}

function fileOperations(fs: PathFilesystem) {
  return {
    open: giving<Arguments['open']>(([path, flags]) => fs.open(path, flags), 0),
    create: giving<Arguments['create']>(([path, mode]) => fs.create(path, mode), 0),
    release: plain<Arguments['release']>(([, fh]) => { fs.release(fh) }), // prettier-ignore
    read: onMemory<Arguments['read']>(
      ([, fh, into, , low, high]) => fs.read(fh, wide(low, high), into),
      ([, , into]) => [0, into.buffer],
    ),
    write: onMemory<Arguments['write']>(
      ([, fh, data, , low, high]) => {
        fs.write(fh, wide(low, high), data)
        return data.length
      },
      ([, , data]) => [0, data.buffer],
    ),
    ftruncate: plain<Arguments['ftruncate']>(([, fh, low, high]) => { fs.truncateOpen(fh, wide(low, high)) }), // prettier-ignore
    fsync: plain<Arguments['fsync']>(() => { fs.fsync() }), // prettier-ignore
    fsyncdir: plain<Arguments['fsyncdir']>(() => { fs.fsync() }), // prettier-ignore
  }
}

function attributeOperations(fs: PathFilesystem) {
  return {
    setxattr: onMemory<Arguments['setxattr']>(
      ([path, name, value, , flags]) => {
        fs.setxattr(path, name, value, flags)
        return 0
      },
      ([, , value]) => [value.buffer],
    ),
    getxattr: onMemory<Arguments['getxattr']>(
      ([path, name, room]) => fill(room, fs.getxattr(path, name)),
      ([, , room]) => [room.buffer],
    ),
    listxattr: onMemory<Arguments['listxattr']>(
      ([path, room]) => fill(room, fs.listxattr(path)),
      ([, room]) => [room.buffer],
    ),
    removexattr: plain<Arguments['removexattr']>(([path, name]) => { fs.removexattr(path, name) }), // prettier-ignore
  }
}

/** chown(2): -1 leaves an owner as it is. */
const unchanged = 0xffff_ffff

function wide(low: number, high: number): number {
  const value = low + high * 2 ** 32
  if (value > Number.MAX_SAFE_INTEGER) throw new ErrnoError('EFBIG', `offset ${value}: past 2^53 - 1`)
  return value
}

/** Puts a value into libfuse's buffer, or only tells its size when that has no room at all. Throws ERANGE. */
function fill(room: Buffer, value: Buffer): number {
  if (room.length > 0 && value.length > room.length) {
    throw new ErrnoError('ERANGE', `xattr: ${value.length} bytes for a buffer of ${room.length}`)
  }
  value.copy(room)
  return value.length
}

/** Where fuse_thread_locals_t has the two times on x64, in milliseconds since the epoch (signed). */
const atimeAt = 104
const mtimeAt = 112

/**
 * The times of a utimens call. fuse-native hands the time of access out in the place of both ("l->atime" twice in its macro);
 * the time of modification is read where it has put it down, next to the other, by which the place is checked.
 */
function timesOf(given: number, thread: WaitingThread): AttributeChanges {
  const atime = thread.readBigInt64LE(atimeAt)
  if (BigInt.asUintN(64, atime) !== BigInt(given)) throw new ErrnoError('EIO', 'utimens: fuse-native has its memory laid out differently')
  return { atime: timeOf(atime), mtime: timeOf(thread.readBigInt64LE(mtimeAt)) }
}

function timeOf(value: bigint): Timestamp {
  const milliseconds = Number(value)
  const sec = Math.floor(milliseconds / 1000)
  return { sec, nsec: (milliseconds - sec * 1000) * 1e6 }
}
