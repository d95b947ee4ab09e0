/**
 * The mounts that this process sees: a parser of /proc/self/mountinfo, proc_pid_mountinfo(5).
 * Keeps: no mountpoint is touched, since a FUSE mount that nobody serves hangs whoever stats it.
 * Leaves: mounting and unmounting to mount.ts.
 */
import { readFileSync } from 'node:fs'

/** One line of mountinfo, escapes undone. */
export interface MountInfo {
  readonly mountId: number
  readonly parentId: number
  /** The device number of the superblock; a FUSE mount has major 0. */
  readonly major: number
  readonly minor: number
  /** The directory of the filesystem that is the root of this mount: `/` but for bind mounts. */
  readonly root: string
  readonly mountpoint: string
  /** `shared` passes mounts on, `slave` receives them, `shared-slave` both; the rest neither. */
  readonly propagation: 'shared' | 'slave' | 'shared-slave' | 'unbindable' | 'private'
  /** Options of the mount: `rw,nosuid`. */
  readonly options: readonly string[]
  readonly fstype: string
  readonly source: string
  /** Options of the superblock. */
  readonly superOptions: readonly string[]
}

/** All mounts, in the order of mountinfo: of two at one mountpoint the later covers the earlier. */
export function listMounts(file = '/proc/self/mountinfo'): MountInfo[] {
  return parseMountinfo(readFileSync(file))
}

/** The topmost mount at exactly `mountpoint` (absolute, without symlinks or a slash at the end), or undefined. */
export function findMount(mountpoint: string): MountInfo | undefined {
  return listMounts().findLast((mount) => mount.mountpoint === mountpoint)
}

/** Parses the content of a mountinfo file. Lines of another form are left out. Names that are not UTF-8 are decoded with
 *  replacement characters, as every path in a JavaScript string. */
export function parseMountinfo(content: Buffer | string): MountInfo[] {
  const lines = (typeof content === 'string' ? Buffer.from(content) : content).toString('latin1').split('\n')
  return lines.map(parseLine).filter((mount) => mount !== undefined)
}

/** `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue` */
function parseLine(line: string): MountInfo | undefined {
  const fields = line.split(' ')
  const dash = fields.indexOf('-', 6)
  const [mountId, parentId, device, root, mountpoint, options] = fields
  if (dash < 0 || device === undefined || root === undefined || mountpoint === undefined) return undefined
  const [major, minor] = device.split(':')
  return {
    mountId: Number(mountId),
    parentId: Number(parentId),
    major: Number(major),
    minor: Number(minor),
    root: unescape(root),
    mountpoint: unescape(mountpoint),
    propagation: propagationOf(fields.slice(6, dash)),
    options: splitOptions(options),
    fstype: unescape(fields[dash + 1] ?? ''),
    source: unescape(fields[dash + 2] ?? ''),
    superOptions: splitOptions(fields[dash + 3]),
  }
}

/** A mountpoint as mountinfo writes it. */
export function escapeMountinfo(path: string): string {
  return path.replace(/[ \t\n\\]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`)
}

function propagationOf(tags: readonly string[]): MountInfo['propagation'] {
  const isShared = tags.some((tag) => tag.startsWith('shared:'))
  const isSlave = tags.some((tag) => tag.startsWith('master:'))
  if (isShared) return isSlave ? 'shared-slave' : 'shared'
  if (isSlave) return 'slave'
  return tags.includes('unbindable') ? 'unbindable' : 'private'
}

function splitOptions(options: string | undefined): string[] {
  return options === undefined || options === '' ? [] : options.split(',').map(unescape)
}

/** The kernel writes space, tab, newline, backslash and `#` as three octal digits. The text is latin1, a byte a character. */
function unescape(text: string): string {
  const bytes = text.replace(/\\([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
  return Buffer.from(bytes, 'latin1').toString('utf8')
}
