/**
 * Access control lists of the model, acl(5): decoded, looked at, and put back into the form of linux/posix_acl_xattr.h.
 * Keeps: what a list says and what the mode says agree. Leaves: where lists lie to model.ts.
 */
export const accessList = 'system.posix_acl_access'
export const defaultList = 'system.posix_acl_default'

/** Tags of linux/posix_acl.h. */
export const aclTags = { userObject: 1, user: 2, groupObject: 4, group: 8, mask: 16, other: 32 } as const

export interface AclEntry {
  readonly tag: number
  readonly permissions: number
  readonly id: number
}

export function encodeAcl(entries: readonly AclEntry[], version = 2): Buffer {
  const list = Buffer.alloc(4 + 8 * entries.length)
  list.writeUInt32LE(version, 0)
  for (const [i, { tag, permissions, id }] of entries.entries()) {
    list.writeUInt16LE(tag, 4 + 8 * i)
    list.writeUInt16LE(permissions, 6 + 8 * i)
    list.writeUInt32LE(id, 8 + 8 * i)
  }
  return list
}

/** The entries, or undefined when the list is not well formed. */
export function decodeAcl(list: Buffer): AclEntry[] | undefined {
  if (list.length % 8 !== 4 || list.readUInt32LE(0) !== 2) return undefined
  const starts = Array.from({ length: (list.length - 4) / 8 }, (_, i) => 4 + 8 * i)
  const entries = starts.map((at) => ({
    tag: list.readUInt16LE(at),
    permissions: list.readUInt16LE(at + 2),
    id: list.readUInt32LE(at + 4),
  }))
  const tags = entries.map(({ tag }) => tag)
  const { userObject, groupObject, mask, other } = aclTags
  const isComplete = tags.includes(userObject) && tags.includes(other) && (tags.includes(groupObject) || tags.includes(mask))
  return isComplete && tags.every((tag) => Object.values<number>(aclTags).includes(tag)) ? entries : undefined
}

/** Whether a list says more than nine permission bits can. */
export function isExtended(entries: readonly AclEntry[]): boolean {
  const few: readonly number[] = [aclTags.userObject, aclTags.groupObject, aclTags.other]
  return entries.some(({ tag }) => !few.includes(tag))
}

/** The nine permission bits that stand for the list: the mask, where there is one, for the group. */
export function bitsOf(entries: readonly AclEntry[]): number {
  return entries.reduce((bits, { tag, permissions }) => bits | ((permissions & 7) << (shiftOf(entries, tag) ?? 9)), 0) & 0o777
}

/** The list after a chmod: the three classes are those of `mode`. */
export function followingMode(entries: readonly AclEntry[], mode: number): AclEntry[] {
  return changed(entries, mode, (_permissions, bits) => bits)
}

/** A default list as the access list of what is created with `mode`. */
export function inheritedBy(entries: readonly AclEntry[], mode: number): AclEntry[] {
  return changed(entries, mode, (permissions, bits) => permissions & bits)
}

function changed(entries: readonly AclEntry[], mode: number, change: (permissions: number, bits: number) => number): AclEntry[] {
  return entries.map((entry) => {
    const shift = shiftOf(entries, entry.tag)
    return shift === undefined ? entry : { ...entry, permissions: change(entry.permissions, (mode >> shift) & 7) }
  })
}

/** Where the bits of an entry lie in a mode; undefined for one that has none. */
function shiftOf(entries: readonly AclEntry[], tag: number): number | undefined {
  const hasMask = entries.some((entry) => entry.tag === aclTags.mask)
  if (tag === aclTags.userObject) return 6
  if (tag === (hasMask ? aclTags.mask : aclTags.groupObject)) return 3
  return tag === aclTags.other ? 0 : undefined
}
