/**
 * How much memory this process's own cgroup allows: cgroups(7), v1 and v2.
 * Keeps: the tightest limit on the way from the process's group up to what it sees as the root counts.
 * Leaves: what to do with it to dirty-limit.ts.
 */
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { listMounts } from './mountinfo.ts'
import type { MountInfo } from './mountinfo.ts'

/** v1 says "unlimited" as the largest multiple of a page; whatever is near it is no limit. */
const UNLIMITED = 2 ** 60

/** Where the limit stands, by version of the hierarchy. */
const limitFile = { v1: 'memory.limit_in_bytes', v2: 'memory.max' } as const

/** The memory limit in bytes of the cgroup that this process is in, or undefined when there is none or it cannot be read.
 *  `proc` is the folder of the process in /proc. */
export function memoryLimit(proc = '/proc/self'): number | undefined {
  try {
    const mounts = listMounts(`${proc}/mountinfo`)
    const groups = readFileSync(`${proc}/cgroup`, 'utf8').trim().split('\n')
    const limits = groups.flatMap((line) => limitsOf(line, mounts))
    return limits.length === 0 ? undefined : Math.min(...limits)
  } catch {
    return undefined
  }
}

/** The limits that one line of /proc/PID/cgroup stands under: `4:memory:/a/b` (v1) or `0::/a/b` (v2). */
function limitsOf(line: string, mounts: readonly MountInfo[]): number[] {
  const [hierarchy, controllers = '', ...rest] = line.split(':')
  const path = rest.join(':')
  const isV1 = controllers.split(',').includes('memory')
  if (!isV1 && hierarchy !== '0') return []
  const mount = mounts.find(({ fstype, superOptions }) =>
    isV1 ? fstype === 'cgroup' && superOptions.includes('memory') : fstype === 'cgroup2',
  )
  if (mount === undefined) return []
  const file = isV1 ? limitFile.v1 : limitFile.v2
  return foldersOf(mount, path)
    .map((folder) => readLimit(join(folder, file)))
    .filter((limit) => limit !== undefined)
}

/** The folders of the group `path` and of its parents, as far as the mount shows them. */
function foldersOf(mount: MountInfo, path: string): string[] {
  const inside = relative(mount.root, path)
  // A container may see a path of the host that its mount does not show: then the mount's root is its group.
  const parts = inside.startsWith('..') ? [] : inside.split('/').filter((part) => part !== '')
  return Array.from({ length: parts.length + 1 }, (_, depth) => join(mount.mountpoint, ...parts.slice(0, depth)))
}

function readLimit(file: string): number | undefined {
  try {
    const limit = Number(readFileSync(file, 'utf8').trim()) // `max` becomes NaN
    return limit < UNLIMITED ? limit : undefined
  } catch {
    return undefined
  }
}
