/**
 * The Filesystem of the FUSE layer, served from one open volume: where fuse and engine meet.
 * Keeps: nodeid 1 is the volume's root, every other nodeid an inode number; an unlinked inode lives until the kernel forgets it.
 * Leaves: storage to the engine, wire formats to fuse.
 */
import { ErrnoError, O_ACCMODE, O_RDONLY, O_TRUNC, S_IFDIR, S_IFLNK, S_IFREG, isDirectory, isRegular, now } from '../base/index.ts'
import type { Caller, Fh, Ino, Nodeid } from '../base/index.ts'
import type { AttributePatch, Inode, Volume } from '../engine/index.ts'
import { FALLOC, ROOT_ID } from '../fuse/index.ts'
import type {
  AttributeChanges,
  Attributes,
  DirectoryEntry,
  Entry,
  Filesystem,
  Maker,
  StatFs,
  WriteOrigin,
  XattrOptions,
} from '../fuse/index.ts'
import { LookupCounts } from './lookup-counts.ts'
import { OpenFiles, writtenInodes, type SharedFiles } from './open-files.ts'
import { Orphans } from './orphans.ts'
import { ReadAhead, type AheadRange } from './read-ahead.ts'
import { Recalls } from './recalls.ts'

/** stat(2) counts blocks of 512 bytes. */
const statBlock = 512

/** Bytes a new inode takes, roughly: how many more the disk has room for. */
const bytesPerInode = 512

/** Reads of at least so many bytes are looked at: whether somebody reads from front to end. */
const largeRead = 1 << 16

/** Writes of at least so many bytes are large, and so many of them are worth helpers: two threads, some 20 MiB of memory. */
const largeWrite = 1 << 18
const manyLarge = 8

const dot = Buffer.from('.')
const dotDot = Buffer.from('..')
const directoryType = S_IFDIR >> 12
const nul = Buffer.alloc(1)
const trustedPrefix = Buffer.from('trusted.')

/** What it is made with. */
export interface VolumeFilesystemOptions {
  readonly shared: SharedFiles
  /** Where the open handles are written down (open-files.ts). */
  readonly handlesFile: string
  /** Where the requests are that predecessors may have left unanswered (recalls.ts). */
  readonly recallsFile: string
  /** The connection was served by a process that died: what the kernel knew from it, it still knows. */
  readonly isSuccessor: boolean
  /** Inodes that the kernel is known to have forgotten although no FORGET said so, each once; asked at each FORGET. */
  readonly takeForgotten?: () => readonly Ino[]
  /** Has the disk bring what will be read next. Default: nobody does. */
  readonly prefetch?: (range: AheadRange) => void
  /** Called once, when large writes have become many. Default: nobody is told. */
  readonly onManyLargeWrites?: () => void
  /** Told of what fails beside a request. */
  readonly onFault: (error: unknown, ino: Ino) => void
}

export class VolumeFilesystem implements Filesystem {
  readonly #volume: Volume
  readonly #shared: SharedFiles
  readonly #openFiles: OpenFiles
  readonly #recalls: Recalls
  readonly #lookups: LookupCounts
  readonly #isSuccessor: boolean
  readonly #orphans: Orphans
  readonly #takeForgotten: () => readonly Ino[]
  readonly #readAhead: ReadAhead | undefined
  readonly #onManyLargeWrites: (() => void) | undefined
  #largeWrites = 0

  constructor(volume: Volume, options: VolumeFilesystemOptions) {
    const { shared, handlesFile, recallsFile, isSuccessor, takeForgotten = () => [], prefetch, onManyLargeWrites, onFault } = options
    this.#volume = volume
    this.#shared = shared
    this.#takeForgotten = takeForgotten
    this.#readAhead = prefetch && new ReadAhead(prefetch)
    this.#onManyLargeWrites = onManyLargeWrites
    this.#isSuccessor = isSuccessor
    this.#openFiles = new OpenFiles(shared, handlesFile)
    this.#recalls = new Recalls(recallsFile, volume.inheritedRequest)
    this.#lookups = new LookupCounts(isSuccessor ? volume.nextIno : 0)
    if (!isSuccessor) volume.collect(volume.orphans())
    this.#orphans = new Orphans(volume, onFault)
  }

  begin(request: number): void {
    this.#openFiles.begin(request)
    this.#volume.beginRequest(request)
  }

  recall(request: number): number | undefined {
    return this.#recalls.find(request)
  }

  catchUp(): void {
    this.#recalls.clear()
    this.#openFiles.compact()
  }

  lookup(parent: Nodeid, name: Buffer): Entry | undefined {
    const inode = this.#volume.lookup(this.#ino(parent), name)
    if (inode === undefined) return undefined
    // By a file handle, and only where the kernel does not know the inode (fuse_get_dentry of fs/fuse/inode.c): so nobody has it open.
    if (inode.nlink === 0) throw new ErrnoError('ESTALE', `inode ${String(inode.ino)}: was removed`)
    return this.#enter(inode)
  }

  forget(nodeid: Nodeid, nlookup: number): void {
    this.#drop(this.#ino(nodeid), nlookup)
    for (const ino of this.#takeForgotten()) this.#drop(ino, 0) // 0: the kernel may have been told of it since
  }

  /** Orphans that nobody has open, nor an answer names that is still to come: the FORGET of each may have died with a predecessor. */
  doubtful(): Ino[] {
    return this.#isSuccessor ? this.#orphans.list().filter((ino) => !this.#isHeld(ino) && !this.#recalls.names(ino)) : []
  }

  #drop(ino: Ino, nlookup: number): void {
    if (this.#lookups.drop(ino, nlookup) && this.#orphans.has(ino) && !this.#isHeld(ino)) this.#orphans.release(ino)
  }

  getattr(nodeid: Nodeid): Attributes {
    return attributes(this.#volume.get(this.#ino(nodeid)))
  }

  setattr(_caller: Caller, nodeid: Nodeid, changes: AttributeChanges): Attributes {
    const time = now()
    const { atime, mtime, ...rest } = changes
    const patch: AttributePatch = {
      ...rest,
      ...(atime === undefined ? {} : { atime: atime === 'now' ? time : atime }),
      ...(mtime === undefined ? {} : { mtime: mtime === 'now' ? time : mtime }),
    }
    const ino = this.#ino(nodeid)
    if (isTimesOfCache(changes) && this.#orphans.isUnlinked(ino)) {
      const inode = this.#volume.get(ino)
      if (isRegular(inode.mode)) return attributes({ ...inode, ...patch })
    }
    return attributes(this.#volume.setAttributes(ino, patch))
  }

  readlink(nodeid: Nodeid): Buffer {
    return this.#volume.readlink(this.#ino(nodeid))
  }

  mknod({ uid, gid, umask }: Maker, parent: Nodeid, name: Buffer, mode: number, rdev: number): Entry {
    return this.#enter(this.#volume.create(this.#ino(parent), name, { uid, gid, umask, mode, rdev }))
  }

  mkdir(maker: Maker, parent: Nodeid, name: Buffer, mode: number): Entry {
    return this.mknod(maker, parent, name, S_IFDIR | (mode & 0o7777), 0)
  }

  symlink(caller: Caller, parent: Nodeid, name: Buffer, target: Buffer): Entry {
    const { uid, gid } = caller
    return this.#enter(this.#volume.create(this.#ino(parent), name, { uid, gid, mode: S_IFLNK | 0o777, target }))
  }

  link(nodeid: Nodeid, newParent: Nodeid, newName: Buffer): Entry {
    const inode = this.#volume.link(this.#ino(nodeid), this.#ino(newParent), newName)
    this.#orphans.delete(inode.ino)
    return this.#enter(inode)
  }

  unlink(parent: Nodeid, name: Buffer): void {
    this.#dropUnnamed(this.#volume.unlink(this.#ino(parent), name))
  }

  rmdir(parent: Nodeid, name: Buffer): void {
    this.#dropUnnamed(this.#volume.rmdir(this.#ino(parent), name))
  }

  rename(parent: Nodeid, name: Buffer, newParent: Nodeid, newName: Buffer, flags: number): void {
    const replaced = this.#volume.rename(this.#ino(parent), name, this.#ino(newParent), newName, flags)
    if (replaced !== undefined) this.#dropUnnamed(replaced)
  }

  create({ uid, gid, umask }: Maker, parent: Nodeid, name: Buffer, mode: number, flags: number): { entry: Entry; fh: Fh } {
    const inode = this.#volume.create(this.#ino(parent), name, { uid, gid, umask, mode: S_IFREG | (mode & 0o7777) })
    return { entry: this.#enter(inode), fh: this.#openFiles.open(inode.ino, isWriting(flags)) }
  }

  tmpfile({ uid, gid, umask }: Maker, parent: Nodeid, mode: number, flags: number): { entry: Entry; fh: Fh } {
    const inode = this.#volume.createUnnamed(this.#ino(parent), { uid, gid, umask, mode: S_IFREG | (mode & 0o7777) })
    this.#orphans.addUnnamed(inode.ino)
    return { entry: this.#enter(inode), fh: this.#openFiles.open(inode.ino, isWriting(flags)) }
  }

  open(nodeid: Nodeid, flags: number, killPrivileges: boolean): Fh {
    const ino = this.#ino(nodeid)
    const inode = this.#volume.get(ino)
    if (isDirectory(inode.mode)) throw new ErrnoError('EISDIR', `inode ${String(ino)}: is a directory`)
    if (!isRegular(inode.mode)) throw new ErrnoError('ENXIO', `inode ${String(ino)}: only a regular file is opened here`)
    if ((flags & O_TRUNC) !== 0) this.#volume.setAttributes(ino, { size: 0, killPrivileges })
    return this.#openFiles.open(ino, isWriting(flags))
  }

  release(_nodeid: Nodeid, fh: Fh): void {
    this.#openFiles.release(fh)
  }

  read(nodeid: Nodeid, offset: number, into: Buffer): number {
    const ino = this.#ino(nodeid)
    if (into.length < largeRead || this.#readAhead === undefined) return this.#volume.read(ino, offset, into)
    const start = performance.now()
    const length = this.#volume.read(ino, offset, into)
    this.#readAhead.note(ino, offset, length, performance.now() - start)
    return length
  }

  write(nodeid: Nodeid, offset: number, data: Buffer, { fromCache, killPrivileges }: WriteOrigin): void {
    if (data.length >= largeWrite && ++this.#largeWrites === manyLarge) this.#onManyLargeWrites?.()
    this.#volume.write(this.#ino(nodeid), offset, data, { keepTimes: fromCache, killPrivileges })
  }

  fallocate(nodeid: Nodeid, offset: number, length: number, mode: number, killPrivileges: boolean): void {
    const ino = this.#ino(nodeid)
    const keepSize = (mode & FALLOC.KEEP_SIZE) !== 0
    const options = { keepSize, killPrivileges }
    if ((mode & (FALLOC.PUNCH_HOLE | FALLOC.ZERO_RANGE)) === 0) this.#volume.allocate(ino, offset, length, options)
    else this.#volume.clear(ino, offset, length, options)
  }

  hasWriters(nodeid: Nodeid): boolean {
    return writtenInodes(this.#shared).includes(this.#ino(nodeid))
  }

  seek(nodeid: Nodeid, offset: number, target: 'data' | 'hole'): number {
    return this.#volume.seek(this.#ino(nodeid), offset, target)
  }

  copyRange(source: Nodeid, sourceOffset: number, target: Nodeid, targetOffset: number, length: number, killPrivileges: boolean): number {
    return this.#volume.copyRange(this.#ino(source), sourceOffset, this.#ino(target), targetOffset, length, killPrivileges)
  }

  fsync(): void {
    this.#volume.sync()
  }

  readdir(nodeid: Nodeid, cookie: number, visit: (entry: DirectoryEntry) => boolean): void {
    const directory = this.#volume.get(this.#ino(nodeid))
    if (cookie < 1 && !visit({ name: dot, cookie: 1, ino: directory.ino, type: directoryType })) return
    if (cookie < 2 && !visit({ name: dotDot, cookie: 2, ino: directory.parent, type: directoryType })) return
    this.#volume.list(directory.ino, cookie, visit)
  }

  entry(ino: number): Entry {
    return this.#enter(this.#volume.get(ino as Ino))
  }

  statfs(): StatFs {
    this.#orphans.collect()
    const { blockSize, blocks, blocksFree, blocksAvailable, inodes } = this.#volume.room()
    const filesFree = Math.floor((blocksAvailable * blockSize) / bytesPerInode)
    return { blockSize, blocks, blocksFree, blocksAvailable, files: inodes + filesFree, filesFree, nameMax: 255 }
  }

  getxattr(nodeid: Nodeid, name: Buffer): Buffer {
    return this.#volume.getXattr(this.#ino(nodeid), name)
  }

  setxattr(nodeid: Nodeid, name: Buffer, value: Buffer, { flags, clearSetgid }: XattrOptions): void {
    this.#volume.setXattr(this.#ino(nodeid), name, value, flags, clearSetgid)
  }

  /** Names of trusted attributes are for root only, xattr(7): the kernel checks reading and writing them, but not the list. */
  listxattr({ uid }: Caller, nodeid: Nodeid): Buffer {
    const isKnown = (name: Buffer): boolean => uid === 0 || !name.subarray(0, trustedPrefix.length).equals(trustedPrefix)
    const names = this.#volume.xattrNames(this.#ino(nodeid)).filter(isKnown)
    return Buffer.concat(names.flatMap((name) => [name, nul]))
  }

  removexattr(nodeid: Nodeid, name: Buffer): void {
    this.#volume.removeXattr(this.#ino(nodeid), name)
  }

  /** Closes the handles file. */
  close(): void {
    this.#openFiles.close()
  }

  #ino(nodeid: Nodeid): Ino {
    return nodeid === ROOT_ID ? this.#volume.root : (nodeid as number as Ino)
  }

  /** The entry as the kernel gets it, one nlookup counted. */
  #enter(inode: Inode): Entry {
    this.#lookups.add(inode.ino)
    const nodeid = (inode.ino === this.#volume.root ? ROOT_ID : inode.ino) as Nodeid
    return { nodeid, attributes: attributes(inode) }
  }

  /** Collects an inode that lost its last name, or leaves it to forget when the kernel knows it. */
  #dropUnnamed(inode: Inode): void {
    if (inode.nlink > 0) return
    this.#orphans.addUnlinked(inode.ino)
    if (!this.#lookups.has(inode.ino) && !this.#isHeld(inode.ino)) this.#orphans.release(inode.ino)
  }

  /** Whether a handle is open although the counts say that the kernel knows the inode no more: only a successor's may be wrong. */
  #isHeld(ino: Ino): boolean {
    return this.#isSuccessor && this.#openFiles.isOpen(ino)
  }
}

/**
 * Whether these may be the times that the kernel keeps of a regular file by itself as long as it knows it, and writes back at the end:
 * only then a ctime comes along (iattr_to_fattr of fs/fuse/dir.c, fuse_get_cache_mask of fs/fuse/inode.c). It does so just before the
 * FORGET of each removed file too, and those nobody can ever see.
 */
function isTimesOfCache({ mtime, ctime, ...rest }: AttributeChanges): boolean {
  return mtime !== undefined && ctime !== undefined && Object.keys(rest).length === 0
}

const isWriting = (flags: number): boolean => (flags & O_ACCMODE) !== O_RDONLY

function attributes(inode: Inode): Attributes {
  const { ino, size, mode, nlink, uid, gid, rdev, atime, mtime, ctime, stored } = inode
  return { ino, size, blocks: Math.ceil(stored / statBlock), mode, nlink, uid, gid, rdev, atime, mtime, ctime }
}
