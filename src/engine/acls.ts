/**
 * POSIX access control lists, acl(5), which are kept as two extended attributes in the kernel's own form.
 * Keeps: an access list and the permission bits say the same: owner, group (mask) and others move together; a list that says no
 *   more than the bits is not stored (as in ext4).
 * Leaves: who may do what by a list to the kernel (FUSE POSIX_ACL); the rows to xattrs.ts.
 *
 * struct posix_acl_xattr_header of linux/posix_acl_xattr.h, little endian: version u32 = 2; then entries of 8 bytes:
 * tag u16, perm u16, id u32.
 */
import { ErrnoError, S_ISGID, isDirectory, isSymlink, type Ino } from '../base/index.ts'
import type { Inode } from './inodes.ts'
import type { Xattrs } from './xattrs.ts'

const accessName = Buffer.from('system.posix_acl_access')
const defaultName = Buffer.from('system.posix_acl_default')

/** POSIX_ACL_XATTR_VERSION, and the sizes of header and entry. */
const aclVersion = 2
const headerSize = 4
const entrySize = 8

/** Tags of linux/posix_acl.h. */
const tags = { userObject: 0x01, user: 0x02, groupObject: 0x04, group: 0x08, mask: 0x10, other: 0x20 } as const
const knownTags: readonly number[] = Object.values(tags)

const permissionBits = 0o777

/** What a new inode gets from the directory it is made in. */
export interface Inheritance {
  readonly mode: number
  readonly access: Buffer | undefined
  readonly default: Buffer | undefined
}

export class Acls {
  readonly #xattrs: Xattrs

  constructor(xattrs: Xattrs) {
    this.#xattrs = xattrs
  }

  /** Whether `name` is that of a list. */
  static isName(name: Buffer): boolean {
    return name.equals(accessName) || name.equals(defaultName)
  }

  /**
   * Sets a list; returns the inode's mode as it is then. `clearSetgid` when who sets it is not of the file's group.
   * Call inside a transaction. Throws EINVAL for what is no list, EACCES for a default list of anything but a directory.
   */
  set(inode: Inode, name: Buffer, list: Buffer, clearSetgid: boolean): number {
    const { bits, isExtended } = readList(list)
    if (name.equals(defaultName)) {
      if (!isDirectory(inode.mode)) throw new ErrnoError('EACCES', `inode ${String(inode.ino)}: only a directory has a default list`)
      this.#xattrs.set(inode.ino, name, list, 0)
      return inode.mode
    }
    if (isExtended) this.#xattrs.set(inode.ino, name, list, 0)
    else this.#xattrs.delete(inode.ino, name)
    return (inode.mode & ~permissionBits & ~(clearSetgid ? S_ISGID : 0)) | bits
  }

  /** Has the access list of an inode, if there is one, follow a chmod to `mode`. Call inside a transaction. */
  follow(ino: Ino, mode: number): void {
    const list = this.#xattrs.find(ino, accessName)
    if (list !== undefined) this.#xattrs.set(ino, accessName, withMode(list, mode), 0)
  }

  /** What an inode made in `directory` with `mode` and `umask` gets: by the directory's default list if it has one, and by the umask's permission bits if not. */
  inherit(directory: Ino, mode: number, umask: number): Inheritance {
    if (isSymlink(mode)) return { mode, access: undefined, default: undefined }
    const list = this.#xattrs.find(directory, defaultName)
    if (list === undefined) return { mode: mode & ~(umask & permissionBits), access: undefined, default: undefined }
    const access = narrowed(list, mode)
    const { bits, isExtended } = readList(access)
    const inherited = isDirectory(mode) ? list : undefined
    return { mode: (mode & ~permissionBits) | bits, access: isExtended ? access : undefined, default: inherited }
  }

  /** Stores what a new inode has inherited. Call inside a transaction. */
  bequeath(ino: Ino, { access, default: inherited }: Inheritance): void {
    if (access !== undefined) this.#xattrs.set(ino, accessName, access, 0)
    if (inherited !== undefined) this.#xattrs.set(ino, defaultName, inherited, 0)
  }
}

/** The permission bits that a list stands for, and whether it says more than them. Throws EINVAL. */
function readList(list: Buffer): { readonly bits: number; readonly isExtended: boolean } {
  if (list.length < headerSize || list.readUInt32LE(0) !== aclVersion || (list.length - headerSize) % entrySize !== 0)
    throw new ErrnoError('EINVAL', 'access control list: not in the form of version 2')
  const permissions = new Map<number, number>()
  for (const at of entries(list)) {
    const tag = list.readUInt16LE(at)
    if (!knownTags.includes(tag)) throw new ErrnoError('EINVAL', `access control list: unknown tag ${String(tag)}`)
    permissions.set(tag, list.readUInt16LE(at + 2) & 7)
  }
  const owner = permissions.get(tags.userObject)
  const group = permissions.get(tags.mask) ?? permissions.get(tags.groupObject)
  const other = permissions.get(tags.other)
  if (owner === undefined || group === undefined || other === undefined)
    throw new ErrnoError('EINVAL', 'access control list: owner, group or others are missing')
  const isExtended = permissions.has(tags.mask) || permissions.has(tags.user) || permissions.has(tags.group)
  return { bits: (owner << 6) | (group << 3) | other, isExtended }
}

/** The list after a chmod: posix_acl_chmod() of the kernel's fs/posix_acl.c. */
const withMode = (list: Buffer, mode: number): Buffer => mapClasses(list, (_permissions, fromMode) => fromMode, mode)

/** A default list as access list of what is created with `mode`: posix_acl_create_masq() of the kernel's fs/posix_acl.c. */
const narrowed = (list: Buffer, mode: number): Buffer => mapClasses(list, (permissions, fromMode) => permissions & fromMode, mode)

/** A copy of the list in which the entries of owner, group class and others are changed by the mode's bits for them. */
function mapClasses(list: Buffer, change: (permissions: number, fromMode: number) => number, mode: number): Buffer {
  const changed = Buffer.from(list)
  const hasMask = entries(list).some((at) => list.readUInt16LE(at) === tags.mask)
  const shifts = new Map<number, number>([[tags.userObject, 6], [hasMask ? tags.mask : tags.groupObject, 3], [tags.other, 0]]) // prettier-ignore
  for (const at of entries(list)) {
    const shift = shifts.get(list.readUInt16LE(at))
    if (shift !== undefined) changed.writeUInt16LE(change(list.readUInt16LE(at + 2), (mode >> shift) & 7), at + 2)
  }
  return changed
}

/** Where the entries of a list begin. */
function entries(list: Buffer): number[] {
  const count = Math.floor((list.length - headerSize) / entrySize)
  return Array.from({ length: count }, (_, index) => headerSize + index * entrySize)
}
