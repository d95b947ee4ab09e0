/**
 * How much memory this process's own cgroup allows, and how much of that is taken for good: cgroups(7), v1 and v2.
 * Keeps: on the way from the process's group up to what it sees as the root, the limit that leaves least counts.
 * Leaves: what to do with it to dirty-limit.ts.
 */
import { readFileSync } from 'node:fs'
import { freemem } from 'node:os'
import { join, relative } from 'node:path'
import { listMounts } from './mountinfo.ts'
import type { MountInfo } from './mountinfo.ts'

/** v1 says "unlimited" as the largest multiple of a page; whatever is near it is no limit. */
const UNLIMITED = 2 ** 60

/** A group with a limit, in bytes. */
export interface MemoryRoom {
  readonly limit: number
  /** Memory of processes and on tmpfs, of this group and those below it: it cannot be taken back for pages of files. */
  readonly taken: number
}

/** The files of a hierarchy: where the limit stands, and which lines of memory.stat are memory that stays. */
const hierarchies = {
  v1: { limitFile: 'memory.limit_in_bytes', staying: ['total_rss', 'total_shmem'] },
  v2: { limitFile: 'memory.max', staying: ['anon', 'shmem'] },
} as const

type Hierarchy = (typeof hierarchies)[keyof typeof hierarchies]

/** The limit that leaves least of those that this process is under, or undefined when there is none or it cannot be read.
 *  `proc` is the folder of the process in /proc. */
export function memoryRoom(proc = '/proc/self'): MemoryRoom | undefined {
  try {
    const mounts = listMounts(`${proc}/mountinfo`)
    const groups = readFileSync(`${proc}/cgroup`, 'utf8').trim().split('\n')
    const rooms = groups.flatMap((line) => roomsOf(line, mounts))
    return rooms.reduce<MemoryRoom | undefined>(
      (least, room) => (least === undefined || left(room) < left(least) ? room : least),
      undefined,
    )
  } catch {
    return undefined
  }
}

/** Bytes that this process could still take, pages of files that can be dropped among them: of the machine, and of its limit. */
export function availableMemory(): number {
  const room = memoryRoom()
  return Math.min(freemem(), room === undefined ? Infinity : left(room))
}

/** What a limit leaves beside the memory that stays, in bytes. */
export function left({ limit, taken }: MemoryRoom): number {
  return Math.max(0, limit - taken)
}

/** The limits with their use that one line of /proc/PID/cgroup stands under: `4:memory:/a/b` (v1) or `0::/a/b` (v2). */
function roomsOf(line: string, mounts: readonly MountInfo[]): MemoryRoom[] {
  const [id, controllers = '', ...rest] = line.split(':')
  const path = rest.join(':')
  const isV1 = controllers.split(',').includes('memory')
  if (!isV1 && id !== '0') return []
  const mount = mounts.find(({ fstype, superOptions }) =>
    isV1 ? fstype === 'cgroup' && superOptions.includes('memory') : fstype === 'cgroup2',
  )
  if (mount === undefined) return []
  const hierarchy = isV1 ? hierarchies.v1 : hierarchies.v2
  return foldersOf(mount, path)
    .map((folder) => readRoom(folder, hierarchy))
    .filter((room) => room !== undefined)
}

/** The folders of the group `path` and of its parents, as far as the mount shows them. */
function foldersOf(mount: MountInfo, path: string): string[] {
  const inside = relative(mount.root, path)
  // A container may see a path of the host that its mount does not show: then the mount's root is its group.
  const parts = inside.startsWith('..') ? [] : inside.split('/').filter((part) => part !== '')
  return Array.from({ length: parts.length + 1 }, (_, depth) => join(mount.mountpoint, ...parts.slice(0, depth)))
}

function readRoom(folder: string, { limitFile, staying }: Hierarchy): MemoryRoom | undefined {
  try {
    const limit = Number(readFileSync(join(folder, limitFile), 'utf8').trim()) // `max` becomes NaN
    if (!(limit < UNLIMITED)) return undefined
    const stat = readFileSync(join(folder, 'memory.stat'), 'utf8').split('\n').map((line) => line.split(' ')) // prettier-ignore
    const taken = stat.filter(([name]) => staying.some((one) => one === name)).map(([, bytes]) => Number(bytes)) // prettier-ignore
    return { limit, taken: taken.reduce((sum, bytes) => sum + bytes, 0) }
  } catch {
    return undefined
  }
}
