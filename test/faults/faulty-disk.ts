/**
 * A disk that can lose power: a filesystem whose files lie in a folder of the host, one by inode, and whose names are in memory.
 * Keeps: it knows what a power cut would leave (stored-file.ts, name-journal.ts); what a node was, it stays until the process
 *   ends, since a name of it may survive.
 * Leaves: faults on demand to fault-gate.ts; permissions, locks and caches to the kernel. No fallocate, no O_TMPFILE: SQLite
 *   and the store do without.
 */
import { copyFileSync, linkSync, lstatSync, mkdirSync, readdirSync, readlinkSync, statfsSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import {
  ErrnoError,
  NAME_MAX,
  O_TRUNC,
  RENAME_NOREPLACE,
  S_IFDIR,
  S_IFLNK,
  S_IFREG,
  isDirectory,
  isRegular,
  isSymlink,
  now,
} from '../../src/base/index.ts'
import type { Caller, Fh, Nodeid, Timestamp } from '../../src/base/index.ts'
import type { AttributeChanges, Attributes, DirectoryEntry, Entry, Filesystem, Maker } from '../../src/fuse/index.ts'
import { NameJournal, type Link, type Names } from './name-journal.ts'
import { StoredFile, type Random } from './stored-file.ts'

interface Node {
  readonly ino: number
  mode: number
  uid: number
  gid: number
  readonly rdev: number
  nlink: number
  parent: number
  times: { readonly atime: Timestamp; readonly mtime: Timestamp; readonly ctime: Timestamp }
  /** Of directories: names in latin1, in the order in which they came. */
  readonly children: Map<string, { readonly ino: number; readonly cookie: number }>
  /** Of regular files. */
  readonly file: StoredFile | undefined
  /** Of symlinks. */
  readonly target: Buffer
}

const rootIno = 1
const noTarget: Buffer = Buffer.alloc(0)
const keyOf = (name: Buffer): string => name.toString('latin1')

export class FaultyDisk implements Filesystem {
  readonly #folder: string
  readonly #random: Random
  readonly #nodes = new Map<number, Node>()
  readonly #journal = new NameJournal()
  #nextIno = rootIno
  #nextCookie = 3

  /** `folder`, which is empty, holds the files. What lies in `source` is copied, and counts as synced. */
  constructor(folder: string, source: string, random: Random) {
    this.#folder = folder
    this.#random = random
    this.#load(this.#addNode(S_IFDIR | 0o755, rootIno).ino, source)
    this.#journal.syncAll()
  }

  /** Writes what a power cut leaves into a new folder, with one chance of surviving for each page and name that was not synced. */
  writeSurvivors(folder: string, chance: number, random: Random): void {
    const names = this.#journal.survivors(chance, random)
    this.#writeDirectory(folder, rootIno, names, new Map(), (file, path) => file.writeSurvivor(path, chance, random))
  }

  /** The name that an inode was first known by; faults are aimed by it. */
  nameOf(nodeid: number): string {
    for (const node of this.#nodes.values()) for (const [name, { ino }] of node.children) if (ino === nodeid) return name
    return ''
  }

  /** A sync of it fails, and what was to be written is lost. */
  failSync(nodeid: Nodeid): void {
    this.#node(nodeid).file?.failSync()
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
    const directory = this.#directory(parent)
    const child = directory.children.get(keyOf(name))
    return child === undefined ? undefined : this.entry(child.ino)
  }

  forget(): void {
    return
  }

  getattr(nodeid: Nodeid): Attributes {
    const { ino, file, target, mode, nlink, uid, gid, rdev, times } = this.#node(nodeid)
    return { ino, size: file?.size ?? target.length, blocks: file?.blocks ?? 0, mode, nlink, uid, gid, rdev, ...times }
  }

  setattr(_caller: Caller, nodeid: Nodeid, changes: AttributeChanges): Attributes {
    const node = this.#node(nodeid)
    const time = now()
    const timeOf = (given: Timestamp | 'now' | undefined, old: Timestamp): Timestamp => (given === 'now' ? time : (given ?? old))
    if (changes.mode !== undefined) node.mode = (node.mode & ~0o7777) | (changes.mode & 0o7777)
    if (changes.uid !== undefined) node.uid = changes.uid
    if (changes.gid !== undefined) node.gid = changes.gid
    if (changes.size !== undefined) this.#file(nodeid).resize(changes.size)
    const mtime = timeOf(changes.mtime, changes.size === undefined ? node.times.mtime : time)
    node.times = { atime: timeOf(changes.atime, node.times.atime), mtime, ctime: changes.ctime ?? time }
    return this.getattr(nodeid)
  }

  readlink(nodeid: Nodeid): Buffer {
    return this.#node(nodeid).target
  }

  mknod(maker: Maker, parent: Nodeid, name: Buffer, mode: number, rdev: number): Entry {
    return this.entry(this.#make(maker, parent, name, mode, { rdev }))
  }

  mkdir(maker: Maker, parent: Nodeid, name: Buffer, mode: number): Entry {
    return this.entry(this.#make(maker, parent, name, S_IFDIR | (mode & 0o7777)))
  }

  symlink(caller: Caller, parent: Nodeid, name: Buffer, target: Buffer): Entry {
    return this.entry(this.#make({ ...caller, umask: 0 }, parent, name, S_IFLNK | 0o777, { target }))
  }

  link(nodeid: Nodeid, newParent: Nodeid, newName: Buffer): Entry {
    this.#assertAbsent(newParent, newName)
    this.#change([], [{ directory: newParent, name: keyOf(newName), ino: nodeid }])
    return this.entry(nodeid)
  }

  unlink(parent: Nodeid, name: Buffer): void {
    this.#change([this.#link(parent, name)], [])
  }

  rmdir(parent: Nodeid, name: Buffer): void {
    const link = this.#link(parent, name)
    if (this.#node(link.ino).children.size > 0) throw new ErrnoError('ENOTEMPTY', 'not empty')
    this.#change([link], [])
  }

  rename(parent: Nodeid, name: Buffer, newParent: Nodeid, newName: Buffer, flags: number): void {
    const from = this.#link(parent, name)
    if ((flags & ~RENAME_NOREPLACE) !== 0) throw new ErrnoError('EINVAL', 'rename: the faulty disk cannot exchange')
    if (flags === RENAME_NOREPLACE) this.#assertAbsent(newParent, newName)
    const replaced = this.#directory(newParent).children.has(keyOf(newName)) ? [this.#link(newParent, newName)] : []
    this.#change([from, ...replaced], [{ directory: newParent, name: keyOf(newName), ino: from.ino }])
    this.#node(from.ino).parent = newParent
  }

  create(maker: Maker, parent: Nodeid, name: Buffer, mode: number): { entry: Entry; fh: Fh } {
    return { entry: this.entry(this.#make(maker, parent, name, S_IFREG | (mode & 0o7777))), fh: 0 as Fh }
  }

  tmpfile(): never {
    throw new ErrnoError('EOPNOTSUPP', 'the faulty disk has no O_TMPFILE')
  }

  open(nodeid: Nodeid, flags: number): Fh {
    if ((flags & O_TRUNC) !== 0) this.setattr({ uid: 0, gid: 0, pid: 0 }, nodeid, { size: 0 })
    return 0 as Fh
  }

  release(): void {
    return
  }

  read(nodeid: Nodeid, offset: number, into: Buffer): number {
    return this.#file(nodeid).read(offset, into)
  }

  write(nodeid: Nodeid, offset: number, data: Buffer): void {
    this.#file(nodeid).write(offset, data)
    const node = this.#node(nodeid)
    const time = now()
    node.times = { ...node.times, mtime: time, ctime: time }
  }

  fallocate(): never {
    throw new ErrnoError('EOPNOTSUPP', 'the faulty disk has no fallocate')
  }

  hasWriters(): boolean {
    return false
  }

  seek(): never {
    throw new ErrnoError('ENOSYS', 'the faulty disk knows no holes')
  }

  copyRange(): never {
    throw new ErrnoError('EOPNOTSUPP', 'the faulty disk copies nothing')
  }

  fsync(nodeid: Nodeid): void {
    const { file } = this.#node(nodeid)
    if (file === undefined) this.#journal.sync(nodeid)
    else file.sync()
  }

  readdir(nodeid: Nodeid, cookie: number, visit: (entry: DirectoryEntry) => boolean): void {
    const { parent, children } = this.#directory(nodeid)
    const dots: [string, { ino: number; cookie: number }][] = [['.', { ino: nodeid, cookie: 1 }], ['..', { ino: parent, cookie: 2 }]] // prettier-ignore
    for (const [name, child] of [...dots, ...children]) {
      if (child.cookie <= cookie) continue
      const { mode } = this.#node(child.ino)
      if (!visit({ name: Buffer.from(name, 'latin1'), cookie: child.cookie, ino: child.ino, type: mode >> 12 })) return
    }
  }

  entry(ino: number): Entry {
    return { nodeid: ino as Nodeid, attributes: this.getattr(ino as Nodeid) }
  }

  statfs() {
    const { bsize, blocks, bfree, bavail } = statfsSync(this.#folder)
    const size = { blockSize: bsize, blocks, blocksFree: bfree, blocksAvailable: bavail }
    return { ...size, files: 1 << 20, filesFree: 1 << 20, nameMax: NAME_MAX }
  }

  getxattr(): never {
    throw new ErrnoError('ENODATA', 'the faulty disk keeps no attributes')
  }

  setxattr(): never {
    throw new ErrnoError('EOPNOTSUPP', 'the faulty disk keeps no attributes')
  }

  listxattr(): Buffer {
    return Buffer.alloc(0)
  }

  removexattr(): never {
    return this.getxattr()
  }

  #node(nodeid: number): Node {
    const node = this.#nodes.get(nodeid)
    if (node === undefined) throw new ErrnoError('ESTALE', 'no such inode')
    return node
  }

  #directory(nodeid: number): Node {
    const node = this.#node(nodeid)
    if (!isDirectory(node.mode)) throw new ErrnoError('ENOTDIR', 'not a directory')
    return node
  }

  #file(nodeid: number): StoredFile {
    const { file } = this.#node(nodeid)
    if (file === undefined) throw new ErrnoError('EINVAL', 'not a regular file')
    return file
  }

  #link(parent: number, name: Buffer): Link {
    const child = this.#directory(parent).children.get(keyOf(name))
    if (child === undefined) throw new ErrnoError('ENOENT', 'no such name')
    return { directory: parent, name: keyOf(name), ino: child.ino }
  }

  #assertAbsent(parent: number, name: Buffer): void {
    if (this.#directory(parent).children.has(keyOf(name))) throw new ErrnoError('EEXIST', 'exists')
  }

  /** Changes names, as seen now and in the journal. */
  #change(removed: readonly Link[], added: readonly Link[]): void {
    for (const { directory, name, ino } of removed) {
      this.#directory(directory).children.delete(name)
      this.#node(ino).nlink -= 1
    }
    for (const { directory, name, ino } of added) {
      this.#directory(directory).children.set(name, { ino, cookie: this.#nextCookie++ })
      this.#node(ino).nlink += 1
    }
    this.#journal.record({ removed, added })
    const time = now()
    for (const { directory } of [...removed, ...added]) {
      const node = this.#node(directory)
      node.times = { ...node.times, mtime: time, ctime: time }
    }
  }

  #make(maker: Maker, parent: number, name: Buffer, mode: number, special: { rdev?: number; target?: Buffer } = {}): number {
    this.#assertAbsent(parent, name)
    const node = this.#addNode(mode & ~maker.umask, parent, special)
    node.uid = maker.uid
    node.gid = maker.gid
    this.#change([], [{ directory: parent, name: keyOf(name), ino: node.ino }])
    return node.ino
  }

  #addNode(mode: number, parent: number, { rdev = 0, target = noTarget }: { rdev?: number; target?: Buffer } = {}): Node {
    const ino = this.#nextIno++
    const time = now()
    const node: Node = {
      ino,
      mode,
      uid: 0,
      gid: 0,
      rdev,
      nlink: isDirectory(mode) ? 1 : 0,
      parent,
      times: { atime: time, mtime: time, ctime: time },
      children: new Map(),
      file: isRegular(mode) ? new StoredFile(join(this.#folder, String(ino)), this.#random) : undefined,
      target,
    }
    this.#nodes.set(ino, node)
    return node
  }

  #load(directory: number, source: string): void {
    for (const name of readdirSync(source)) {
      const path = join(source, name)
      const { mode } = lstatSync(path)
      if (isRegular(mode)) copyFileSync(path, join(this.#folder, String(this.#nextIno)))
      const target = isSymlink(mode) ? Buffer.from(readlinkSync(path)) : noTarget
      const { ino } = this.#addNode(mode, directory, { target })
      this.#change([], [{ directory, name: keyOf(Buffer.from(name)), ino }])
      if (isDirectory(mode)) this.#load(ino, path)
    }
  }

  #writeDirectory(
    folder: string,
    ino: number,
    names: Names,
    written: Map<number, string>,
    writeFile: (file: StoredFile, path: string) => void,
  ): void {
    mkdirSync(folder, { mode: this.#node(ino).mode & 0o7777 })
    for (const [name, child] of names.get(ino) ?? []) {
      const path = join(folder, Buffer.from(name, 'latin1').toString())
      const { mode, file, target } = this.#node(child)
      const twin = written.get(child)
      if (isDirectory(mode)) this.#writeDirectory(path, child, names, written, writeFile)
      else if (twin !== undefined) linkSync(twin, path)
      else if (isSymlink(mode)) symlinkSync(target, path)
      else if (file !== undefined) writeFile(file, path)
      written.set(child, path)
    }
  }
}
