/**
 * A filesystem in memory, as simple as it can be: what a volume must answer, for model.test.ts.
 * Keeps: the rules of POSIX as docs/format.md and the man pages state them; link counts are counted anew from the tree whenever they
 *   are asked for; a method that throws has changed nothing.
 * Leaves: the moment of a change to the volume: a time that is "now" is `justNow` until `adopt` takes over the real one.
 */
import { ErrnoError, RENAME_EXCHANGE, RENAME_NOREPLACE, S_IFMT, S_ISGID, S_ISUID, S_IXGRP } from '../../src/base/index.ts'
import { isDirectory, isRegular, isSymlink, type ErrnoCode, type Ino, type Timestamp } from '../../src/base/index.ts'
import { maximumFileSize, type AttributePatch, type Creation, type Dentry, type Inode, type Volume } from '../../src/engine/index.ts'
import { accessList, bitsOf, decodeAcl, defaultList, encodeAcl, followingMode, inheritedBy, isExtended } from './model-acls.ts'
import { SparseBytes } from './sparse-bytes.ts'

/** What the random commands call, of a volume and of the model alike. */
export type Subject = Pick<
  Volume,
  | 'root' | 'get' | 'lookup' | 'readlink' | 'list' | 'create' | 'createUnnamed' | 'link' | 'unlink' | 'rmdir' | 'rename' | 'read'
  | 'write' | 'setAttributes' | 'allocate' | 'clear' | 'seek' | 'copyRange' | 'getXattr' | 'xattrNames' | 'setXattr' | 'removeXattr' | 'collect'
> // prettier-ignore

type TimeField = 'atime' | 'mtime' | 'ctime'

interface Node extends Record<TimeField, Timestamp> {
  readonly ino: Ino
  mode: number
  uid: number
  gid: number
  readonly rdev: number
  size: number
  /** Of a directory: where `..` leads. */
  parent: Ino
  readonly target: Buffer | undefined
  readonly content: SparseBytes
  /** Names in latin1, so that each byte is kept. */
  readonly entries: Map<string, { ino: Ino; readonly cookie: number }>
  readonly xattrs: Map<string, Buffer>
}

/** How a range is allocated or cleared. */
interface RangeOptions {
  readonly keepSize: boolean
  readonly killPrivileges?: boolean
}

/** The time of the step under way. */
export const justNow: Timestamp = { sec: 0, nsec: -1 }

const types = new Set([0o010000, 0o020000, 0o040000, 0o060000, 0o100000, 0o120000, 0o140000])
const keyOf = (name: Buffer): string => name.toString('latin1')

function fail(code: ErrnoCode): never {
  throw new ErrnoError(code, 'the model says so')
}

function refuse(isRefused: boolean, code: ErrnoCode): void {
  if (isRefused) fail(code)
}

export class Model implements Subject {
  readonly root = 2 as Ino
  readonly nodes = new Map<Ino, Node>()
  #nextIno = 2

  constructor() {
    this.#add({ uid: 0, gid: 0, mode: 0o040755 }, this.root)
  }

  get(ino: Ino): Inode {
    const { mode, uid, gid, rdev, size, parent, atime, mtime, ctime, content } = this.#node(ino)
    return { ino, volume: 1, mode, nlink: this.#nlink(ino), uid, gid, rdev, size, stored: content.stored, parent, atime, mtime, ctime }
  }

  lookup(parent: Ino, name: Buffer): Inode | undefined {
    if (keyOf(name) === '.') return this.get(parent)
    const directory = this.#directory(parent)
    if (keyOf(name) === '..') return this.get(directory.parent)
    assertLength(name)
    const entry = directory.entries.get(keyOf(name))
    return entry && this.get(entry.ino)
  }

  readlink(ino: Ino): Buffer {
    return this.#node(ino).target ?? fail('EINVAL')
  }

  list(ino: Ino, cookie: number, visit: (dentry: Dentry) => boolean): void {
    const entries = [...this.#directory(ino).entries].sort(([, a], [, b]) => a.cookie - b.cookie)
    for (const [key, entry] of entries.filter(([, entry]) => entry.cookie > cookie)) {
      if (!visit({ name: Buffer.from(key, 'latin1'), ...entry, type: this.#node(entry.ino).mode >> 12 })) return
    }
  }

  create(parent: Ino, name: Buffer, creation: Creation): Inode {
    const directory = this.#freeName(parent, name)
    const node = this.#add(creation, parent)
    this.#place(directory, name, node.ino)
    return this.get(node.ino)
  }

  createUnnamed(parent: Ino, creation: Creation): Inode {
    this.#living(parent)
    return this.get(this.#add(creation, parent).ino)
  }

  link(ino: Ino, parent: Ino, name: Buffer): Inode {
    const directory = this.#freeName(parent, name)
    const node = this.#node(ino)
    refuse(isDirectory(node.mode), 'EPERM')
    this.#place(directory, name, ino)
    node.ctime = justNow
    return this.get(ino)
  }

  unlink(parent: Ino, name: Buffer): Inode {
    const [directory, node] = this.#named(parent, name)
    refuse(isDirectory(node.mode), 'EISDIR')
    return this.#remove(directory, name, node)
  }

  rmdir(parent: Ino, name: Buffer): Inode {
    const [directory, node] = this.#named(parent, name)
    assertEmptyDirectory(node)
    return this.#remove(directory, name, node)
  }

  rename(parent: Ino, name: Buffer, newParent: Ino, newName: Buffer, flags: number): Inode | undefined {
    refuse(![0, RENAME_NOREPLACE, RENAME_EXCHANGE].includes(flags), 'EINVAL')
    const [from, node] = this.#named(parent, name)
    const to = this.#living(newParent)
    assertLength(newName)
    const target = to.entries.get(keyOf(newName))
    const other = target && this.#node(target.ino)
    refuse(isDirectory(node.mode) && this.#isBelow(newParent, node.ino), 'EINVAL')
    if (flags === RENAME_EXCHANGE) {
      this.#exchange([from, name, node], [to, newName, other ?? fail('ENOENT')])
      return undefined
    }
    if (other === undefined) assertNewName(newName)
    else if (flags === RENAME_NOREPLACE) fail('EEXIST')
    else if (other === node) return undefined
    else if (isDirectory(node.mode)) assertEmptyDirectory(other)
    else refuse(isDirectory(other.mode), 'EISDIR')
    from.entries.delete(keyOf(name))
    if (target === undefined) this.#place(to, newName, node.ino)
    else target.ino = node.ino
    node.parent = newParent
    touch(from, to)
    for (const changed of [node, other]) if (changed) changed.ctime = justNow
    return other && this.get(other.ino)
  }

  #exchange([from, name, node]: [Node, Buffer, Node], [to, newName, other]: [Node, Buffer, Node]): void {
    if (node === other) return
    refuse(isDirectory(other.mode) && this.#isBelow(from.ino, other.ino), 'EINVAL')
    const [source, target] = [from.entries.get(keyOf(name)), to.entries.get(keyOf(newName))]
    if (source === undefined || target === undefined) fail('EIO')
    source.ino = other.ino
    target.ino = node.ino
    node.parent = to.ino
    other.parent = from.ino
    touch(from, to)
    node.ctime = other.ctime = justNow
  }

  read(ino: Ino, offset: number, into: Buffer): number {
    const { size, content } = this.#file(ino)
    const length = Math.max(0, Math.min(size - offset, into.length))
    return content.read(offset, length).copy(into)
  }

  write(ino: Ino, offset: number, data: Buffer, options: { keepTimes: boolean; killPrivileges: boolean }): void {
    const node = this.#file(ino)
    refuse(offset + data.length > maximumFileSize, 'EFBIG')
    if (data.length === 0) return
    if (options.killPrivileges) clearPrivileges(node)
    node.content.write(offset, data)
    node.size = Math.max(node.size, offset + data.length)
    if (!options.keepTimes) node.mtime = node.ctime = justNow
  }

  allocate(ino: Ino, offset: number, length: number, { keepSize, killPrivileges }: RangeOptions): void {
    const node = this.#file(ino)
    refuse(offset + length > maximumFileSize, 'EFBIG')
    if (killPrivileges === true) clearPrivileges(node)
    if (!keepSize) node.size = Math.max(node.size, offset + length)
    node.mtime = node.ctime = justNow
  }

  clear(ino: Ino, offset: number, length: number, { keepSize, killPrivileges }: RangeOptions): void {
    const node = this.#file(ino)
    refuse(!keepSize && offset + length > maximumFileSize, 'EFBIG')
    if (killPrivileges === true) clearPrivileges(node)
    node.content.clear(offset, offset + length)
    if (!keepSize) node.size = Math.max(node.size, offset + length)
    node.mtime = node.ctime = justNow
  }

  seek(ino: Ino, offset: number, target: 'data' | 'hole'): number {
    const { size, content } = this.#file(ino)
    refuse(offset >= size, 'ENXIO')
    if (target === 'hole') return Math.min(size, content.nextHole(offset))
    const data = content.nextData(offset)
    return data === Infinity ? fail('ENXIO') : data
  }

  copyRange(source: Ino, sourceOffset: number, target: Ino, targetOffset: number, length: number, killPrivileges = false): number {
    const [from, to] = [this.#file(source), this.#file(target)]
    refuse(from === to && Math.abs(sourceOffset - targetOffset) < length, 'EINVAL')
    const copied = Math.max(0, Math.min(length, from.size - sourceOffset))
    refuse(copied > 0 && targetOffset + copied > maximumFileSize, 'EFBIG')
    if (killPrivileges) clearPrivileges(to)
    if (copied === 0) return 0
    to.content.copy(from.content, sourceOffset, targetOffset, copied)
    to.size = Math.max(to.size, targetOffset + copied)
    to.mtime = to.ctime = justNow
    return copied
  }

  setAttributes(ino: Ino, patch: AttributePatch): Inode {
    const node = this.#node(ino)
    const { size, mode, killPrivileges, ...rest } = patch
    if (size !== undefined) {
      this.#file(ino)
      refuse(size > maximumFileSize, 'EFBIG')
      node.content.clear(size, Infinity)
      node.size = size
      node.mtime = justNow
    }
    if (killPrivileges === true || patch.uid !== undefined || patch.gid !== undefined) clearPrivileges(node)
    if (mode !== undefined) {
      node.mode = (node.mode & S_IFMT) | (mode & 0o7777)
      const list = node.xattrs.get(accessList)
      if (list) node.xattrs.set(accessList, encodeAcl(followingMode(decodeAcl(list) ?? [], mode)))
    }
    Object.assign(node, { ctime: justNow }, rest)
    return this.get(ino)
  }

  getXattr(ino: Ino, name: Buffer): Buffer {
    const node = this.#node(ino)
    assertNamespace(name)
    return node.xattrs.get(keyOf(name)) ?? fail('ENODATA')
  }

  xattrNames(ino: Ino): Buffer[] {
    return [...this.#node(ino).xattrs.keys()].sort().map((key) => Buffer.from(key, 'latin1'))
  }

  setXattr(ino: Ino, name: Buffer, value: Buffer, flags: number, clearSetgid = false): void {
    const node = this.#node(ino)
    if ([accessList, defaultList].includes(keyOf(name))) {
      this.#setAcl(node, keyOf(name), value, clearSetgid)
      return
    }
    assertNamespace(name)
    refuse(name.length > 255, 'ERANGE')
    refuse(value.length > 65536, 'E2BIG')
    refuse((flags & ~3) !== 0, 'EINVAL')
    const exists = node.xattrs.has(keyOf(name))
    refuse(exists && (flags & 1) !== 0, 'EEXIST')
    refuse(!exists && (flags & 2) !== 0, 'ENODATA')
    node.xattrs.set(keyOf(name), Buffer.from(value))
    node.ctime = justNow
  }

  #setAcl(node: Node, key: string, list: Buffer, clearSetgid: boolean): void {
    const entries = decodeAcl(list) ?? fail('EINVAL')
    refuse(key === defaultList && !isDirectory(node.mode), 'EACCES')
    if (key === defaultList || isExtended(entries)) node.xattrs.set(key, list)
    else node.xattrs.delete(key)
    if (key === accessList) node.mode = (node.mode & ~0o777 & ~(clearSetgid ? S_ISGID : 0)) | bitsOf(entries)
    node.ctime = justNow
  }

  removeXattr(ino: Ino, name: Buffer): void {
    const node = this.#node(ino)
    assertNamespace(name)
    if (!node.xattrs.delete(keyOf(name))) {
      refuse(![accessList, defaultList].includes(keyOf(name)), 'ENODATA')
      return
    }
    node.ctime = justNow
  }

  collect(inos: readonly Ino[]): void {
    for (const ino of inos) if (this.nodes.has(ino) && this.#nlink(ino) === 0) this.nodes.delete(ino)
  }

  /** The fields of the inode whose time is that of the last step. */
  touchedTimes(ino: Ino): TimeField[] {
    const node = this.#node(ino)
    return (['atime', 'mtime', 'ctime'] as const).filter((field) => node[field] === justNow)
  }

  /** Takes over the moments that the volume chose for the last step. */
  adopt(inode: Inode): void {
    const node = this.#node(inode.ino)
    for (const field of this.touchedTimes(inode.ino)) node[field] = inode[field]
  }

  #node(ino: Ino): Node {
    return this.nodes.get(ino) ?? fail('ESTALE')
  }

  #directory(ino: Ino): Node {
    const node = this.#node(ino)
    return isDirectory(node.mode) ? node : fail('ENOTDIR')
  }

  /** A directory that has a name. */
  #living(ino: Ino): Node {
    const directory = this.#directory(ino)
    return this.#nlink(ino) === 0 ? fail('ENOENT') : directory
  }

  #file(ino: Ino): Node {
    const node = this.#node(ino)
    return isRegular(node.mode) ? node : fail('EINVAL')
  }

  #named(parent: Ino, name: Buffer): [Node, Node] {
    const directory = this.#directory(parent)
    assertLength(name)
    return [directory, this.#node((directory.entries.get(keyOf(name)) ?? fail('ENOENT')).ino)]
  }

  #freeName(parent: Ino, name: Buffer): Node {
    const directory = this.#living(parent)
    assertLength(name)
    assertNewName(name)
    return directory.entries.has(keyOf(name)) ? fail('EEXIST') : directory
  }

  #nlink(ino: Ino): number {
    const named = [...this.nodes.values()].flatMap(({ entries }) => [...entries.values()]).filter((entry) => entry.ino === ino).length
    const node = this.#node(ino)
    if (!isDirectory(node.mode)) return named
    if (named === 0 && ino !== this.root) return 0
    return 2 + [...node.entries.values()].filter((entry) => isDirectory(this.#node(entry.ino).mode)).length
  }

  #isBelow(ino: Ino, ancestor: Ino): boolean {
    return ino === ancestor || (ino !== this.root && this.#isBelow(this.#node(ino).parent, ancestor))
  }

  #add(creation: Creation, parent: Ino): Node {
    const { uid, gid, rdev = 0, target } = creation
    const mode = creation.mode & 0o177777
    refuse(!types.has(mode & S_IFMT), 'EINVAL')
    refuse(!isSymlink(mode) && target !== undefined, 'EINVAL')
    refuse(isSymlink(mode) && (target ?? '').length === 0, 'ENOENT')
    refuse((target ?? '').length > 4095, 'ENAMETOOLONG')
    const directory = this.nodes.get(parent)
    const isInherited = directory !== undefined && (directory.mode & S_ISGID) !== 0
    const ino = this.#nextIno++ as Ino
    const node: Node = {
      ino,
      mode: mode | (isInherited && isDirectory(mode) ? S_ISGID : 0),
      uid,
      gid: isInherited ? directory.gid : gid,
      rdev: [0o020000, 0o060000].includes(mode & S_IFMT) ? rdev : 0,
      size: target?.length ?? 0,
      parent,
      target,
      atime: justNow,
      mtime: justNow,
      ctime: justNow,
      content: new SparseBytes(),
      entries: new Map(),
      xattrs: new Map(),
    }
    this.nodes.set(ino, node)
    if (!isSymlink(mode)) inherit(node, directory?.xattrs.get(defaultList), creation.umask ?? 0)
    return node
  }

  #place(directory: Node, name: Buffer, ino: Ino): void {
    const cookie = Math.max(2, ...[...directory.entries.values()].map((entry) => entry.cookie)) + 1
    directory.entries.set(keyOf(name), { ino, cookie })
    touch(directory)
  }

  #remove(directory: Node, name: Buffer, node: Node): Inode {
    directory.entries.delete(keyOf(name))
    touch(directory)
    node.ctime = justNow
    return this.get(node.ino)
  }
}

function touch(...directories: Node[]): void {
  for (const directory of directories) directory.mtime = directory.ctime = justNow
}

/** What the default list of a directory does to what is made in it; without one the umask counts. */
function inherit(node: Node, list: Buffer | undefined, umask: number): void {
  const entries = list && decodeAcl(list)
  if (list === undefined || entries === undefined) {
    node.mode &= ~umask
    return
  }
  const access = inheritedBy(entries, node.mode)
  node.mode = (node.mode & ~0o777) | bitsOf(access)
  if (isExtended(access)) node.xattrs.set(accessList, encodeAcl(access))
  if (isDirectory(node.mode)) node.xattrs.set(defaultList, list)
}

function clearPrivileges(node: Node): void {
  if (isDirectory(node.mode)) return
  node.xattrs.delete('security.capability')
  node.mode &= ~S_ISUID
  if ((node.mode & S_IXGRP) !== 0) node.mode &= ~S_ISGID
}

function assertLength(name: Buffer): void {
  refuse(name.length > 255, 'ENAMETOOLONG')
  refuse(name.length === 0, 'ENOENT')
}

/** The namespaces of xattr(7); of `system.` only access control lists. */
function assertNamespace(name: Buffer): void {
  const [, rest] = /^(?:user|trusted|security)\.(.*)$/s.exec(keyOf(name)) ?? []
  refuse(rest === undefined && ![accessList, defaultList].includes(keyOf(name)), 'EOPNOTSUPP')
  refuse(rest === '', 'EINVAL')
}

/** `.` and `..` are everywhere; NUL and slash cannot be in a name. */
function assertNewName(name: Buffer): void {
  refuse(['.', '..'].includes(keyOf(name)), 'EEXIST')
  refuse(name.includes(0) || name.includes('/'), 'EINVAL')
}

function assertEmptyDirectory(node: Node): void {
  refuse(!isDirectory(node.mode), 'ENOTDIR')
  refuse(node.entries.size > 0, 'ENOTEMPTY')
}
