/**
 * The Filesystem as libfuse 2 asks for it: by path. A path is walked from the root with `lookup`, each of which is balanced by
 * a `forget`; an open file is known by its handle.
 * Keeps: an open file stays itself whatever happens to its name; a new file belongs to the owner and group of its directory, since
 *   fuse-native does not tell who asks, and gets no setuid or setgid bit, which would lend that owner's rights to whoever made it.
 * Leaves: arguments and replies to operations.ts, storage to the Filesystem.
 */
import { ErrnoError, O_RDWR, S_ISGID, S_ISUID } from '../../base/index.ts'
import type { Caller, Fh, Nodeid } from '../../base/index.ts'
import { ROOT_ID } from '../constants.ts'
import type { AttributeChanges, Attributes, DirectoryEntry, Entry, Filesystem, Maker, StatFs } from '../filesystem.ts'
import type { OperationName } from './addon.ts'
import { HiddenFiles } from './hidden-files.ts'
import { bytesOf, hiddenNameOf, namesOf, splitPath, textOf } from './paths.ts'

/** Nobody in particular: who asks is not told. */
const anybody: Caller = { uid: 0, gid: 0, pid: 0 }

/** Extended attributes that acl(5) keeps its lists in. */
const aclPrefix = 'system.posix_acl_'
const aclNames = /(?<=^|\0)system\.posix_acl_[^\0]*\0/g

export class PathFilesystem {
  readonly #fs: Filesystem
  readonly #hidden: HiddenFiles
  /** Open files; each holds one nlookup. */
  readonly #open = new Map<number, Nodeid>()

  /** `onFault` is told of what fails beside a request. */
  constructor(fs: Filesystem, onFault: (error: unknown) => void) {
    this.#fs = fs
    this.#hidden = new HiddenFiles((path) => {
      try {
        this.#unlinkNow(path)
      } catch (error) {
        onFault(error)
      }
    })
  }

  /** To be called before each operation. */
  begin(operation: OperationName, path: unknown, target: unknown): void {
    this.#hidden.settleBefore(operation, path, target)
  }

  /** Does what waits for another operation. */
  settle(): void {
    this.#hidden.settle()
  }

  /** Whether nothing waits. */
  get isSettled(): boolean {
    return this.#hidden.isSettled
  }

  getattr(path: string): Attributes {
    return this.#at(path, (nodeid) => this.#fs.getattr(nodeid))
  }

  getattrOpen(fh: number): Attributes {
    return this.#fs.getattr(this.#opened(fh))
  }

  setattr(path: string, changes: AttributeChanges): void {
    this.#at(path, (nodeid) => this.#fs.setattr(anybody, nodeid, changes))
  }

  truncateOpen(fh: number, size: number): void {
    this.#fs.setattr(anybody, this.#opened(fh), { size })
  }

  readlink(path: string): string {
    return textOf(this.#at(path, (nodeid) => this.#fs.readlink(nodeid)))
  }

  mknod(path: string, mode: number, rdev: number): void {
    this.#make(path, (maker, parent, name) => this.#fs.mknod(maker, parent, name, harmless(mode), rdev))
  }

  mkdir(path: string, mode: number): void {
    this.#make(path, (maker, parent, name) => this.#fs.mkdir(maker, parent, name, mode))
  }

  symlink(target: string, path: string): void {
    const bytes = bytesOf(target)
    this.#make(path, (maker, parent, name) => this.#fs.symlink(maker, parent, name, bytes))
  }

  link(path: string, newPath: string): void {
    this.#at(path, (nodeid) => {
      this.#make(newPath, (_maker, parent, name) => this.#fs.link(nodeid, parent, name))
    })
  }

  unlink(path: string): void {
    // A hidden file has no name in the volume, and is given up at its last close.
    if (hiddenNameOf(path) === undefined || !this.#isHidden(path)) this.#unlinkNow(path)
  }

  rmdir(path: string): void {
    this.#in(path, (parent, name) => {
      this.#fs.rmdir(parent, name)
    })
  }

  rename(path: string, newPath: string): void {
    if (this.#hide(path, newPath)) return
    this.#in(path, (parent, name) => {
      this.#in(newPath, (newParent, newName) => {
        this.#fs.rename(parent, name, newParent, newName, 0)
      })
    })
  }

  /** The flags of open(2) are not told: the file counts as open for writing. */
  create(path: string, mode: number): number {
    const { fh, entry } = this.#in(path, (parent, name) => this.#fs.create(this.#ownerOf(parent), parent, name, harmless(mode), O_RDWR))
    this.#open.set(fh, entry.nodeid)
    return fh
  }

  /** A removed file whose last handle is gone is ESTALE: the kernel then looks the name up again, and finds what replaced the file. */
  open(path: string, flags: number): number {
    const nodeid = this.#hold(path, hiddenNameOf(path) === undefined ? 'ENOENT' : 'ESTALE')
    try {
      const fh = this.#fs.open(nodeid, flags, false)
      this.#open.set(fh, nodeid)
      return fh
    } catch (error) {
      this.#forget(nodeid)
      throw error
    }
  }

  release(fh: number): void {
    const nodeid = this.#opened(fh)
    this.#open.delete(fh)
    this.#fs.release(nodeid, fh as Fh)
    if (!this.#isOpen(nodeid)) this.#hidden.drop(nodeid)
    this.#forget(nodeid)
  }

  read(fh: number, offset: number, into: Buffer): number {
    return this.#fs.read(this.#opened(fh), offset, into)
  }

  write(fh: number, offset: number, data: Buffer): void {
    this.#fs.write(this.#opened(fh), offset, data, { fromCache: false, killPrivileges: false })
  }

  fsync(): void {
    this.#fs.fsync(ROOT_ID)
  }

  /** All entries, `.` and `..` included. */
  list(path: string): DirectoryEntry[] {
    const entries: DirectoryEntry[] = []
    this.#at(path, (nodeid) => {
      this.#fs.readdir(nodeid, 0, (entry) => entries.push(entry) > 0)
    })
    return entries
  }

  statfs(): StatFs {
    return this.#fs.statfs()
  }

  getxattr(path: string, name: string): Buffer {
    assertNoAcl(name)
    return this.#at(path, (nodeid) => this.#fs.getxattr(nodeid, bytesOf(name)))
  }

  setxattr(path: string, name: string, value: Buffer, flags: number): void {
    assertNoAcl(name)
    this.#at(path, (nodeid) => {
      this.#fs.setxattr(nodeid, bytesOf(name), Buffer.from(value), { flags, clearSetgid: false })
    })
  }

  /** All names, each followed by a NUL byte. */
  listxattr(path: string): Buffer {
    return withoutAcl(this.#at(path, (nodeid) => this.#fs.listxattr(anybody, nodeid)))
  }

  removexattr(path: string, name: string): void {
    assertNoAcl(name)
    this.#at(path, (nodeid) => {
      this.#fs.removexattr(nodeid, bytesOf(name))
    })
  }

  /** Calls `use` with the inode at `path`, which the filesystem keeps until then. */
  #at<R>(path: string, use: (nodeid: Nodeid) => R): R {
    const nodeid = this.#hold(path)
    try {
      return use(nodeid)
    } finally {
      this.#forget(nodeid)
    }
  }

  /** Calls `use` with the directory of `path` and the path's last name. */
  #in<R>(path: string, use: (parent: Nodeid, name: Buffer) => R): R {
    const { folder, name } = splitPath(path)
    return this.#at(folder, (parent) => use(parent, bytesOf(name)))
  }

  /** Makes something at `path` that is not opened. */
  #make(path: string, make: (maker: Maker, parent: Nodeid, name: Buffer) => Entry): void {
    const { nodeid } = this.#in(path, (parent, name) => make(this.#ownerOf(parent), parent, name))
    this.#forget(nodeid)
  }

  /** The kernel has applied the umask. */
  #ownerOf(parent: Nodeid): Maker {
    const { uid, gid } = this.#fs.getattr(parent)
    return { uid, gid, pid: 0, umask: 0 }
  }

  /** Walks to the inode at `path` and holds one nlookup of it, which the caller gives back. Throws `absent` where there is nothing. */
  #hold(path: string, absent: 'ENOENT' | 'ESTALE' = 'ENOENT'): Nodeid {
    const hidden = this.#findHidden(path)
    if (hidden !== undefined) return this.#fs.entry(this.#fs.getattr(hidden).ino).nodeid
    let nodeid = ROOT_ID
    for (const name of namesOf(path)) {
      let entry: Entry | undefined
      try {
        entry = this.#fs.lookup(nodeid, name)
      } finally {
        this.#forget(nodeid)
      }
      if (entry === undefined) throw new ErrnoError(absent, 'path: there is nothing')
      nodeid = entry.nodeid
    }
    return nodeid
  }

  /** Gives one nlookup back. The root is known without any. */
  #forget(nodeid: Nodeid): void {
    if (nodeid !== ROOT_ID) this.#fs.forget(nodeid, 1)
  }

  #opened(fh: number): Nodeid {
    const nodeid = this.#open.get(fh)
    if (nodeid === undefined) throw new ErrnoError('EBADF', `handle ${fh}: is not open`)
    return nodeid
  }

  #isOpen(nodeid: Nodeid): boolean {
    for (const opened of this.#open.values()) if (opened === nodeid) return true
    return false
  }

  #unlinkNow(path: string): void {
    this.#in(path, (parent, name) => {
      this.#fs.unlink(parent, name)
    })
  }

  #findHidden(path: string): Nodeid | undefined {
    const name = hiddenNameOf(path)
    return name === undefined ? undefined : this.#hidden.find(name)
  }

  #isHidden(path: string): boolean {
    return this.#findHidden(path) !== undefined
  }

  /** Whether a rename is libfuse's way to keep an open file that loses its name; then it is done. */
  #hide(path: string, newPath: string): boolean {
    const name = hiddenNameOf(newPath)
    if (name === undefined || splitPath(path).folder !== splitPath(newPath).folder) return false
    return this.#at(path, (nodeid) => {
      if (!this.#isOpen(nodeid)) return false
      this.#hidden.hide(path, name, nodeid)
      return true
    })
  }
}

/** A mode without setuid and setgid. */
function harmless(mode: number): number {
  return mode & ~(S_ISUID | S_ISGID)
}

/** The kernel does not evaluate ACLs for libfuse 2: stored unevaluated they would only seem to protect. */
function assertNoAcl(name: string): void {
  if (name.startsWith(aclPrefix)) throw new ErrnoError('EOPNOTSUPP', 'POSIX ACLs are not evaluated with the driver fuse-native')
}

/** A list of names, each followed by a NUL byte, without those of ACLs. */
function withoutAcl(list: Buffer): Buffer {
  const text = list.toString('latin1') // keeps every byte
  return text.includes(aclPrefix) ? Buffer.from(text.replaceAll(aclNames, ''), 'latin1') : list
}
