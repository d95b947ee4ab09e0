/**
 * A filesystem in memory for the tests of the driver: small, plain, served by serve-memory.ts.
 * Keeps: POSIX answers for the operations that the tests use. Leaves: permissions to the kernel, everything else to ENOSYS.
 */
import { ErrnoError, NAME_MAX, S_IFDIR, S_IFLNK, S_IFREG } from '../../src/base/index.ts'
import type { Caller, Fh, Nodeid, Timestamp } from '../../src/base/index.ts'
import type { AttributeChanges, Attributes, DirectoryEntry, Entry, Filesystem, Maker } from '../../src/fuse/filesystem.ts'

interface Node {
  readonly ino: number
  mode: number
  uid: number
  gid: number
  rdev: number
  nlink: number
  content: Buffer
  size: number
  times: { atime: Timestamp; mtime: Timestamp; ctime: Timestamp }
  /** Names in latin1, so that each byte is kept; a Map keeps the order of insertion. */
  readonly children: Map<string, { ino: number; cookie: number }>
  readonly xattrs: Map<string, Buffer>
  parent: number
  nlookup: number
}

const keyOf = (name: Buffer): string => name.toString('latin1')

/** Everything in maps; inode numbers and cookies count upwards. */
export class MemoryFilesystem implements Filesystem {
  readonly nodes = new Map<number, Node>()
  #nextIno = 2
  #nextCookie = 3
  #nextFh = 1
  calls = 0

  constructor() {
    this.#add(1, S_IFDIR | 0o755, 1, { uid: 0, gid: 0, pid: 0 })
  }

  begin(): void {
    return
  }

  recall(): undefined {
    return undefined
  }

  catchUp(): void {
    return
  }

  lookup(parent: Nodeid, name: Buffer): Entry | undefined {
    if (name.length > NAME_MAX) throw new ErrnoError('ENAMETOOLONG', 'name: longer than 255 bytes')
    const key = keyOf(name)
    const directory = this.#directory(parent)
    if (key === '.') return this.entry(parent)
    if (key === '..') return this.entry(directory.parent)
    const child = directory.children.get(key)
    return child === undefined ? undefined : this.entry(child.ino)
  }

  forget(nodeid: Nodeid, nlookup: number): void {
    const node = this.nodes.get(nodeid)
    if (node === undefined) return
    node.nlookup -= nlookup
    if (node.nlookup <= 0 && node.nlink === 0) this.nodes.delete(nodeid)
  }

  getattr(nodeid: Nodeid): Attributes {
    const { ino, size, mode, nlink, uid, gid, rdev, times } = this.#node(nodeid)
    return { ino, size, blocks: Math.ceil(size / 512), mode, nlink, uid, gid, rdev, ...times }
  }

  setattr(_caller: Caller, nodeid: Nodeid, changes: AttributeChanges): Attributes {
    const node = this.#node(nodeid)
    if (changes.mode !== undefined) node.mode = changes.mode
    if (changes.uid !== undefined) node.uid = changes.uid
    if (changes.gid !== undefined) node.gid = changes.gid
    if (changes.size !== undefined) this.#resize(node, changes.size)
    if (changes.killPrivileges === true) node.mode &= ~0o6000
    const now = clock()
    node.times = {
      atime: changes.atime === 'now' ? now : (changes.atime ?? node.times.atime),
      mtime: changes.mtime === 'now' ? now : (changes.mtime ?? node.times.mtime),
      ctime: changes.ctime ?? now,
    }
    return this.getattr(nodeid)
  }

  readlink(nodeid: Nodeid): Buffer {
    return this.#node(nodeid).content
  }

  mknod(caller: Maker, parent: Nodeid, name: Buffer, mode: number, rdev: number): Entry {
    const node = this.#make(caller, parent, name, mode)
    node.rdev = rdev
    return this.entry(node.ino)
  }

  mkdir(caller: Maker, parent: Nodeid, name: Buffer, mode: number): Entry {
    return this.entry(this.#make(caller, parent, name, S_IFDIR | (mode & 0o7777)).ino)
  }

  symlink(caller: Caller, parent: Nodeid, name: Buffer, target: Buffer): Entry {
    const node = this.#make(caller, parent, name, S_IFLNK | 0o777)
    node.content = target
    node.size = target.length
    return this.entry(node.ino)
  }

  link(nodeid: Nodeid, newParent: Nodeid, newName: Buffer): Entry {
    this.#place(newParent, newName, nodeid)
    this.#node(nodeid).nlink += 1
    return this.entry(nodeid)
  }

  unlink(parent: Nodeid, name: Buffer): void {
    this.#remove(parent, name)
  }

  rmdir(parent: Nodeid, name: Buffer): void {
    const child = this.#child(parent, name)
    if (this.#node(child).children.size > 0) throw new ErrnoError('ENOTEMPTY', 'not empty')
    this.#remove(parent, name)
  }

  rename(parent: Nodeid, name: Buffer, newParent: Nodeid, newName: Buffer, flags: number): void {
    const ino = this.#child(parent, name)
    const target = this.#directory(newParent).children.get(keyOf(newName))
    if (target !== undefined && flags === 1) throw new ErrnoError('EEXIST', 'exists')
    if (target !== undefined) this.#remove(newParent, newName)
    this.#directory(parent).children.delete(keyOf(name))
    this.#place(newParent, newName, ino)
    this.#node(ino).parent = newParent
  }

  create(caller: Maker, parent: Nodeid, name: Buffer, mode: number): { entry: Entry; fh: Fh } {
    const node = this.#make(caller, parent, name, S_IFREG | (mode & 0o7777))
    return { entry: this.entry(node.ino), fh: this.#open() }
  }

  tmpfile(caller: Maker, parent: Nodeid, mode: number): { entry: Entry; fh: Fh } {
    const node = this.#add(this.#nextIno++, S_IFREG | (mode & 0o7777), parent, caller)
    node.nlink = 0
    return { entry: this.entry(node.ino), fh: this.#open() }
  }

  open(nodeid: Nodeid, flags: number): Fh {
    const node = this.#node(nodeid)
    if ((flags & 0o1000) !== 0) this.#resize(node, 0)
    return this.#open()
  }

  release(): void {
    return
  }

  read(nodeid: Nodeid, offset: number, into: Buffer): number {
    const { content, size } = this.#node(nodeid)
    const end = Math.min(size, offset + into.length)
    return offset >= end ? 0 : content.copy(into, 0, offset, end)
  }

  write(nodeid: Nodeid, offset: number, data: Buffer): void {
    const node = this.#node(nodeid)
    if (offset + data.length > node.size) this.#resize(node, offset + data.length)
    data.copy(node.content, offset)
  }

  fallocate(nodeid: Nodeid, offset: number, length: number, mode: number): void {
    const node = this.#node(nodeid)
    if ((mode & 1) === 0 && offset + length > node.size) this.#resize(node, offset + length)
    if (mode > 1) node.content.fill(0, offset, Math.min(node.size, offset + length))
  }

  hasWriters(): boolean {
    return false
  }

  /** All of a file is data. */
  seek(nodeid: Nodeid, offset: number, target: 'data' | 'hole'): number {
    const { size } = this.#node(nodeid)
    if (offset >= size) throw new ErrnoError('ENXIO', 'past the end')
    return target === 'data' ? offset : size
  }

  copyRange(source: Nodeid, sourceOffset: number, target: Nodeid, targetOffset: number, length: number): number {
    const { content, size } = this.#node(source)
    const data = Buffer.from(content.subarray(sourceOffset, Math.min(size, sourceOffset + length)))
    if (data.length > 0) this.write(target, targetOffset, data)
    return data.length
  }

  fsync(): void {
    return
  }

  readdir(nodeid: Nodeid, cookie: number, visit: (entry: DirectoryEntry) => boolean): void {
    const directory = this.#directory(nodeid)
    const dots = [
      { name: '.', cookie: 1, ino: nodeid as number },
      { name: '..', cookie: 2, ino: directory.parent },
    ]
    const children = [...directory.children].map(([name, child]) => ({ name, ...child }))
    for (const entry of [...dots, ...children]) {
      if (entry.cookie <= cookie) continue
      const type = this.#node(entry.ino).mode >> 12
      if (!visit({ name: Buffer.from(entry.name, 'latin1'), cookie: entry.cookie, ino: entry.ino, type })) return
    }
  }

  entry(ino: number): Entry {
    this.#node(ino).nlookup += 1
    return { nodeid: ino as Nodeid, attributes: this.getattr(ino as Nodeid) }
  }

  statfs() {
    const size = { blockSize: 4096, blocks: 1_000_000, blocksFree: 600_000, blocksAvailable: 500_000 }
    return { ...size, files: 10_000, filesFree: 9_000, nameMax: 255 }
  }

  getxattr(nodeid: Nodeid, name: Buffer): Buffer {
    const value = this.#node(nodeid).xattrs.get(keyOf(name))
    if (value === undefined) throw new ErrnoError('ENODATA', 'no such attribute')
    return value
  }

  setxattr(nodeid: Nodeid, name: Buffer, value: Buffer): void {
    this.#node(nodeid).xattrs.set(keyOf(name), value)
  }

  listxattr(_caller: Caller, nodeid: Nodeid): Buffer {
    return Buffer.from([...this.#node(nodeid).xattrs.keys()].map((name) => `${name}\0`).join(''), 'latin1')
  }

  removexattr(nodeid: Nodeid, name: Buffer): void {
    if (!this.#node(nodeid).xattrs.delete(keyOf(name))) throw new ErrnoError('ENODATA', 'no such attribute')
  }

  #open(): Fh {
    return this.#nextFh++ as Fh
  }

  #node(nodeid: number): Node {
    this.calls += 1
    const node = this.nodes.get(nodeid)
    if (node === undefined) throw new ErrnoError('ESTALE', 'no such inode')
    return node
  }

  #directory(nodeid: number): Node {
    const node = this.#node(nodeid)
    if ((node.mode & S_IFDIR) === 0) throw new ErrnoError('ENOTDIR', 'not a directory')
    return node
  }

  #child(parent: number, name: Buffer): number {
    const child = this.#directory(parent).children.get(keyOf(name))
    if (child === undefined) throw new ErrnoError('ENOENT', 'no such name')
    return child.ino
  }

  #add(ino: number, mode: number, parent: number, { uid, gid }: Caller): Node {
    const now = clock()
    const times = { atime: now, mtime: now, ctime: now }
    const empty = { content: Buffer.alloc(0), size: 0, children: new Map(), xattrs: new Map(), nlookup: 0 }
    const node: Node = { ino, mode, uid, gid, rdev: 0, nlink: 1, times, parent, ...empty }
    this.nodes.set(ino, node)
    return node
  }

  #make(caller: Caller & { readonly umask?: number }, parent: number, name: Buffer, mode: number): Node {
    if (this.#directory(parent).children.has(keyOf(name))) throw new ErrnoError('EEXIST', 'exists')
    const node = this.#add(this.#nextIno++, mode & ~(caller.umask ?? 0), parent, caller)
    this.#place(parent, name, node.ino)
    return node
  }

  #place(parent: number, name: Buffer, ino: number): void {
    this.#directory(parent).children.set(keyOf(name), { ino, cookie: this.#nextCookie++ })
  }

  #remove(parent: number, name: Buffer): void {
    const node = this.#node(this.#child(parent, name))
    this.#directory(parent).children.delete(keyOf(name))
    node.nlink -= 1
    if (node.nlink === 0 && node.nlookup <= 0) this.nodes.delete(node.ino)
  }

  #resize(node: Node, size: number): void {
    if (size > node.content.length) node.content = Buffer.concat([node.content], Math.max(size, node.content.length * 2))
    if (size < node.size) node.content.fill(0, size, node.size)
    node.size = size
  }
}

function clock(): Timestamp {
  const ms = Date.now()
  return { sec: Math.floor(ms / 1000), nsec: (ms % 1000) * 1e6 }
}
