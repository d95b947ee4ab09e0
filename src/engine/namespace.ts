/**
 * The tree: names, links and what they do to inodes, by the rules of POSIX.
 * Keeps: nlink of a file equals its dentries, of a directory 2 + its subdirectories; an inode whose last name goes
 *   becomes an orphan, not yet collected; no directory is below itself.
 * Leaves: transactions to volume.ts, permissions to the kernel, content to content.ts.
 */
import {
  ErrnoError,
  NAME_MAX,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  S_ISGID,
  isDevice,
  isDirectory,
  isRegular,
  isSymlink,
  now,
  type Ino,
  type Timestamp,
} from '../base/index.ts'
import type { Acls } from './acls.ts'
import type { Dentries, Dentry } from './dentries.ts'
import type { Inode, Inodes } from './inodes.ts'

/** Who makes a new inode, and with which mode. */
export interface Creation {
  readonly uid: number
  readonly gid: number
  /** Type and permission bits. */
  readonly mode: number
  /** Permission bits to take away where the directory has no default list, acl(5). Default: 0. */
  readonly umask?: number
  readonly rdev?: number
  readonly target?: Buffer
}

/** The bytes of `.` and `/`. */
const dot = 0x2e
const slash = 0x2f

/** As ext4: more names of one inode are EMLINK. */
const maximumLinks = 65000

/** The longest symlink target: PATH_MAX less the final NUL. */
const maximumTarget = 4095

/** The types of inode(7). */
const types: ReadonlySet<number> = new Set([S_IFIFO, S_IFCHR, S_IFDIR, S_IFBLK, S_IFREG, S_IFLNK, S_IFSOCK])

export class Namespace {
  readonly #inodes: Inodes
  readonly #dentries: Dentries
  readonly #acls: Acls

  constructor(inodes: Inodes, dentries: Dentries, acls: Acls) {
    this.#inodes = inodes
    this.#dentries = dentries
    this.#acls = acls
  }

  /** The inode of that name, or undefined. `.` and `..` lead to the directory and its parent. */
  lookup(parent: Ino, name: Buffer): Inode | undefined {
    if (name[0] === dot && name.length === 1) return this.#inodes.get(parent) // asked of any inode, for a file handle
    const directory = this.#directory(parent)
    if (name[0] === dot && name[1] === dot && name.length === 2) return this.#inodes.get(directory.parent)
    assertLength(name)
    const dentry = this.#dentries.find(parent, name)
    return dentry === undefined ? undefined : this.#named(parent, dentry)
  }

  /** Makes an inode under a new name. Call inside a transaction. Throws EEXIST, ENAMETOOLONG, ENOENT for a removed parent. */
  create(parent: Ino, name: Buffer, creation: Creation): Inode {
    const directory = this.#freeName(parent, name)
    const time = now()
    const isDir = isDirectory(creation.mode)
    if (isDir) this.#assertRoomForLink(directory)
    const inode = this.#newInode(directory, creation, isDir ? 2 : 1, time)
    this.#dentries.insert(parent, name, inode.ino, inode.mode)
    this.#touch(directory, time, isDir ? 1 : 0)
    return inode
  }

  /** Makes a regular file without a name (O_TMPFILE): an orphan until it is linked. Call inside a transaction. */
  createUnnamed(parent: Ino, creation: Creation): Inode {
    const directory = this.#directory(parent)
    this.#assertAlive(directory)
    const inode = this.#newInode(directory, creation, 0, now())
    this.#inodes.addOrphan(inode.ino)
    return inode
  }

  /** Gives an inode one more name. Call inside a transaction. Throws EPERM for a directory, ENOENT for an inode without any. */
  link(ino: Ino, parent: Ino, name: Buffer): Inode {
    const directory = this.#freeName(parent, name)
    const inode = this.#inodes.get(ino)
    if (isDirectory(inode.mode)) throw new ErrnoError('EPERM', `inode ${String(ino)}: a directory has one name`)
    this.#assertRoomForLink(inode)
    if (inode.nlink === 0) this.#inodes.removeOrphan(ino)
    const time = now()
    this.#dentries.insert(parent, name, ino, inode.mode)
    this.#touch(directory, time, 0)
    return this.#inodes.update(inode, { nlink: inode.nlink + 1, ctime: time, parent })
  }

  /** Removes a name of anything but a directory; returns the inode as it is then. Call inside a transaction. */
  unlink(parent: Ino, name: Buffer): Inode {
    const directory = this.#directory(parent)
    const dentry = this.#get(parent, name)
    const inode = this.#named(parent, dentry)
    if (isDirectory(inode.mode)) throw new ErrnoError('EISDIR', `inode ${String(inode.ino)}: is a directory`)
    const time = now()
    this.#dentries.delete(parent, dentry)
    this.#touch(directory, time, 0)
    return this.#dropLink(inode, time)
  }

  /** Removes an empty directory; returns its inode as it is then. Call inside a transaction. */
  rmdir(parent: Ino, name: Buffer): Inode {
    const directory = this.#directory(parent)
    const dentry = this.#get(parent, name)
    const inode = this.#named(parent, dentry)
    this.#assertEmptyDirectory(inode)
    const time = now()
    this.#dentries.delete(parent, dentry)
    this.#touch(directory, time, -1)
    return this.#dropDirectory(inode, time)
  }

  /**
   * Renames by the rules of rename(2) and, with `flags`, of renameat2(2). Call inside a transaction.
   * Returns the inode that lost its name to it, as it is then, or undefined.
   * Throws ENOENT, EEXIST, EINVAL (into itself, unknown flags), EISDIR, ENOTDIR, ENOTEMPTY.
   */
  rename(parent: Ino, name: Buffer, newParent: Ino, newName: Buffer, flags: number): Inode | undefined {
    if (flags !== 0 && flags !== RENAME_NOREPLACE && flags !== RENAME_EXCHANGE) throw new ErrnoError('EINVAL', 'rename: unknown flags')
    this.#directory(parent)
    const source = this.#get(parent, name)
    const inode = this.#named(parent, source)
    this.#assertAlive(this.#directory(newParent))
    assertLength(newName)
    const target = this.#dentries.find(newParent, newName)
    if (isDirectory(inode.mode)) this.#assertNotBelow(newParent, inode.ino)
    if (flags === RENAME_EXCHANGE) {
      this.#exchange(parent, source, inode, newParent, target)
      return undefined
    }
    if (target !== undefined && flags === RENAME_NOREPLACE) throw new ErrnoError('EEXIST', 'rename: the new name exists')
    if (target?.ino === inode.ino) return undefined // two names of one inode: rename(2) does nothing
    return this.#move(parent, source, inode, newParent, newName, target)
  }

  /** Moves a name; what the new name stood for loses it. */
  #move(parent: Ino, source: Dentry, inode: Inode, newParent: Ino, newName: Buffer, target: Dentry | undefined): Inode | undefined {
    const time = now()
    const isDir = isDirectory(inode.mode)
    const replaced = target === undefined ? undefined : this.#replaceable(inode, this.#named(newParent, target))
    if (target === undefined) assertNewName(newName)
    if (isDir && parent !== newParent && replaced === undefined) this.#assertRoomForLink(this.#directory(newParent))
    this.#dentries.delete(parent, source)
    if (target === undefined) this.#dentries.insert(newParent, newName, inode.ino, inode.mode)
    else this.#dentries.repoint(newParent, target, inode.ino, inode.mode)
    this.#touch(this.#directory(parent), time, isDir ? -1 : 0)
    const isDirReplaced = replaced !== undefined && isDirectory(replaced.mode)
    this.#touch(this.#directory(newParent), time, (isDir ? 1 : 0) - (isDirReplaced ? 1 : 0))
    this.#inodes.update(inode, { parent: newParent, ctime: time })
    if (replaced === undefined) return undefined
    return isDirReplaced ? this.#dropDirectory(replaced, time) : this.#dropLink(replaced, time)
  }

  /** Swaps what two names stand for. */
  #exchange(parent: Ino, source: Dentry, inode: Inode, newParent: Ino, target: Dentry | undefined): void {
    if (target === undefined) throw new ErrnoError('ENOENT', 'rename: there is nothing to exchange with')
    const other = this.#named(newParent, target)
    if (other.ino === inode.ino) return
    if (isDirectory(other.mode)) this.#assertNotBelow(parent, other.ino)
    const time = now()
    this.#dentries.repoint(parent, source, other.ino, other.mode)
    this.#dentries.repoint(newParent, target, inode.ino, inode.mode)
    const moved = (isDirectory(inode.mode) ? 1 : 0) - (isDirectory(other.mode) ? 1 : 0)
    this.#touch(this.#directory(parent), time, parent === newParent ? 0 : -moved)
    this.#touch(this.#directory(newParent), time, parent === newParent ? 0 : moved)
    this.#inodes.update(inode, { parent: newParent, ctime: time })
    this.#inodes.update(other, { parent, ctime: time })
  }

  /** The inode that a rename may replace. Throws EISDIR, ENOTDIR, ENOTEMPTY. */
  #replaceable(inode: Inode, replaced: Inode): Inode {
    if (!isDirectory(inode.mode)) {
      if (isDirectory(replaced.mode)) throw new ErrnoError('EISDIR', `inode ${String(replaced.ino)}: is a directory`)
      return replaced
    }
    this.#assertEmptyDirectory(replaced)
    return replaced
  }

  #newInode(directory: Inode, creation: Creation, nlink: number, time: Timestamp): Inode {
    const { uid, gid, rdev = 0, target } = creation
    const inheritance = this.#acls.inherit(directory.ino, creation.mode & (S_IFMT | 0o7777), creation.umask ?? 0)
    const { mode } = inheritance
    assertType(mode, target)
    const inherits = (directory.mode & S_ISGID) !== 0
    const inode = this.#inodes.insert({
      volume: directory.volume,
      mode: inherits && isDirectory(mode) ? mode | S_ISGID : mode,
      nlink,
      uid,
      gid: inherits ? directory.gid : gid,
      rdev: isDevice(mode) ? rdev : 0,
      size: target?.length ?? 0,
      parent: directory.ino,
      time,
      target: target ?? null,
    })
    this.#acls.bequeath(inode.ino, inheritance)
    return inode
  }

  #dropLink(inode: Inode, time: Timestamp): Inode {
    const changed = this.#inodes.update(inode, { nlink: inode.nlink - 1, ctime: time })
    if (changed.nlink === 0) this.#inodes.addOrphan(inode.ino)
    return changed
  }

  #dropDirectory(inode: Inode, time: Timestamp): Inode {
    this.#inodes.addOrphan(inode.ino)
    return this.#inodes.update(inode, { nlink: 0, ctime: time })
  }

  /** The directory's entries changed. */
  #touch(directory: Inode, time: Timestamp, subdirectories: number): void {
    const current = this.#inodes.get(directory.ino)
    this.#inodes.update(current, { nlink: current.nlink + subdirectories, mtime: time, ctime: time })
  }

  #directory(ino: Ino): Inode {
    const inode = this.#inodes.get(ino)
    if (isDirectory(inode.mode)) return inode
    throw new ErrnoError('ENOTDIR', `inode ${String(ino)}: is not a directory`)
  }

  /** The directory, if a new entry of that name can be added to it. */
  #freeName(parent: Ino, name: Buffer): Inode {
    const directory = this.#directory(parent)
    this.#assertAlive(directory)
    assertLength(name)
    assertNewName(name)
    if (this.#dentries.find(parent, name) !== undefined) throw new ErrnoError('EEXIST', `directory ${String(parent)}: the name exists`)
    return directory
  }

  #get(parent: Ino, name: Buffer): Dentry {
    assertLength(name)
    const dentry = this.#dentries.find(parent, name)
    if (dentry === undefined) throw new ErrnoError('ENOENT', `directory ${String(parent)}: the name does not exist`)
    return dentry
  }

  /** The inode of a dentry. Throws EIO when the row is missing: that is damage. */
  #named(parent: Ino, { ino }: Dentry): Inode {
    const inode = this.#inodes.find(ino)
    if (inode === undefined)
      throw new ErrnoError('EIO', `directory ${String(parent)}: an entry names inode ${String(ino)}, which is missing`)
    return inode
  }

  #assertAlive(directory: Inode): void {
    if (directory.nlink === 0) throw new ErrnoError('ENOENT', `inode ${String(directory.ino)}: the directory was removed`)
  }

  #assertRoomForLink(inode: Inode): void {
    const isFull = isRegular(inode.mode) && inode.nlink >= maximumLinks
    if (isFull) throw new ErrnoError('EMLINK', `inode ${String(inode.ino)}: it has ${String(maximumLinks)} names`)
  }

  #assertEmptyDirectory(inode: Inode): void {
    if (!isDirectory(inode.mode)) throw new ErrnoError('ENOTDIR', `inode ${String(inode.ino)}: is not a directory`)
    if (!this.#dentries.isEmpty(inode.ino)) throw new ErrnoError('ENOTEMPTY', `inode ${String(inode.ino)}: the directory is not empty`)
  }

  /** Throws EINVAL when `directory` is `ancestor` or below it. */
  #assertNotBelow(directory: Ino, ancestor: Ino): void {
    for (let at = directory; ;) {
      if (at === ancestor) throw new ErrnoError('EINVAL', `inode ${String(ancestor)}: a directory cannot move below itself`)
      const { parent } = this.#inodes.get(at)
      if (parent === at) return
      at = parent
    }
  }
}

function assertLength(name: Buffer): void {
  if (name.length > NAME_MAX)
    throw new ErrnoError('ENAMETOOLONG', `name: it has ${String(name.length)} bytes, ${String(NAME_MAX)} are allowed`)
  if (name.length === 0) throw new ErrnoError('ENOENT', 'name: it is empty')
}

/** Refuses what the kernel never asks for but a stranger's request might: a name that a path cannot hold. */
function assertNewName(name: Buffer): void {
  const isDots = name[0] === dot && (name.length === 1 || (name.length === 2 && name[1] === dot))
  if (isDots) throw new ErrnoError('EEXIST', 'name: . and .. are in every directory')
  if (name.includes(slash) || name.includes(0)) throw new ErrnoError('EINVAL', 'name: it has a slash or a NUL')
}

/** A symlink, and nothing else, has a target, of 1 to 4095 bytes. Throws EINVAL, ENOENT (symlink(2) of ""), ENAMETOOLONG. */
function assertType(mode: number, target: Buffer | undefined): void {
  if (!types.has(mode & S_IFMT)) throw new ErrnoError('EINVAL', `mode ${mode.toString(8)}: its type is none of inode(7)`)
  if (!isSymlink(mode)) {
    if (target !== undefined) throw new ErrnoError('EINVAL', 'only a symlink has a target')
    return
  }
  if (target === undefined || target.length === 0) throw new ErrnoError('ENOENT', 'symlink: its target is empty')
  if (target.length > maximumTarget) throw new ErrnoError('ENAMETOOLONG', 'symlink: its target has at most 4095 bytes')
}
