/**
 * Raises how many dirty pages the kernel lets a FUSE mount hold: /sys/class/bdi/MAJOR:MINOR, by default 1 % of all.
 * Keeps: at most 20 % and 400 MiB; under a memory limit at most a quarter of what it leaves beside the processes, divided by the mounts;
 *   `strict_limit` 1; of that, a part is the mount's whatever others write: at most a tenth of the dirty threshold, divided by the mounts
 *   that there are then; never throws.
 * Leaves: finding the device number to mount.ts, the memory limit to memory-limit.ts, setting it anew to mount/dirty-pages.ts.
 *
 * Why: with 1 % random 4 KiB writes trickle out page by page, 25,000 a second against 331,000 with 20 %. Why no more:
 * writer and FUSE process in one cgroup of 300 MiB hung for good with 20 % (design.md, section 5): the FUSE process needs memory to
 * take the very pages that fill the group. Linux 6.18 kills processes of the group instead. A quarter of the whole limit was too much
 * still where the processes themselves need 230 of the 300 MiB: 150 MiB a writer took 132 s, or the FUSE process was killed;
 * with 9 MiB it took 25 s. And the kernel begins to write back at half of the limit: with 900 MiB who writes 512 has written all of it
 * before the first request comes, and then waits for all of it (docs/performance.md).
 *
 * Why a part of its own: within its limit a mount may have dirty what the share of it is in all that was written back lately, and its own
 * WAL on the disk below counts against it (`__wb_calc_thresh` of mm/page-writeback.c, where FUSE is sure of 1 % only). When that fell below
 * what was dirty already, who wrote slept for 200 ms, and the FUSE process had nothing to do meanwhile.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { messageOf, systemCode } from '../base/index.ts'
import { left, memoryRoom, type MemoryRoom } from './memory-limit.ts'
import { listMounts } from './mountinfo.ts'

const MAX_RATIO_PERCENT = 20
/** Half of it is a fraction of a second of writing; random writes seldom have so much before they are synced. */
const MOST_BYTES = 400 * 2 ** 20
/** Of the dirty threshold, for all mounts that there are. It is taken from all other disks, and the kernel refuses what makes 100 % with others'. */
const HELD_SHARE = 1 / 10
/** Of the limit, which the kernel keeps as a share of a threshold that changes: a part that is as large is refused now and then. */
const MOST_HELD = 15 / 16
const MEMORY_SHARE = 1 / 4
/** However little is left: pages of a few requests of the largest size. */
const LEAST_BYTES = 4 * 2 ** 20
const PAGE_SIZE = 4096
const MIB = 2 ** 20

/** Which mount, and how far. */
export interface DirtyLimitOptions {
  /** The device number of the mount. */
  readonly major: number
  readonly minor: number
  /** Read-ahead of the mount in KiB; default: left as it is (128). */
  readonly readAheadKb?: number
  /** The folder of the bdi classes; default /sys/class/bdi. */
  readonly bdiRoot?: string
  /** How many mounts share the memory limit, this one included; default: those of litevol that this process sees. */
  readonly mounts?: number
  /** The memory limit, undefined for none; default: that of this process's cgroup. */
  readonly memory?: MemoryRoom | undefined
  /** How many bytes may be dirty in the whole system, undefined for unknown; default: what the kernel says. */
  readonly threshold?: number | undefined
}

/** What is to be set: a share of the dirty threshold, or fewer bytes, because of the memory limit or because they are enough. */
export type DirtyPlan = { readonly kind: 'ratio' } | { readonly kind: 'bytes'; readonly bytes: number; readonly memory?: MemoryRoom }

/** What is to be set now. */
export function planDirtyLimit(options: Pick<DirtyLimitOptions, 'mounts' | 'memory' | 'threshold'> = {}): DirtyPlan {
  const memory = 'memory' in options ? options.memory : memoryRoom()
  const threshold = thresholdOf(options)
  const ratioBytes = threshold === undefined ? undefined : ratioOf(threshold)
  const most: DirtyPlan = (ratioBytes ?? 0) < MOST_BYTES ? { kind: 'ratio' } : { kind: 'bytes', bytes: MOST_BYTES }
  if (memory === undefined) return most
  const share = Math.floor((left(memory) * MEMORY_SHARE) / (options.mounts ?? countMounts()))
  const bytes = Math.max(LEAST_BYTES, share)
  return bytes < Math.min(ratioBytes ?? Infinity, MOST_BYTES) ? { kind: 'bytes', bytes, memory } : most
}

/** Whether what `planDirtyLimit` says may change: there is a memory limit. */
export function mayPlanChange(): boolean {
  return memoryRoom() !== undefined
}

/** Sets the limit, by default that of `planDirtyLimit`, and returns one sentence: what was set and why, or why nothing was. */
export function setDirtyLimit(options: DirtyLimitOptions, wanted = planDirtyLimit(options)): string {
  const { major, minor, readAheadKb, bdiRoot = '/sys/class/bdi' } = options
  const folder = `${bdiRoot}/${major}:${minor}`
  try {
    writeFileSync(`${folder}/strict_limit`, '1', { flag: 'r+' })
  } catch (error) {
    // Before Linux 6.2 there is no such file, and the limit is always strict for FUSE.
    if (systemCode(error) !== 'ENOENT') return `dirty limit left at the kernel's default: ${messageOf(error)}`
  }
  holdBytes(folder, 0) // a limit below it would be refused
  const limitSentence = applyPlan(folder, wanted) + holdShare(folder, wanted, options)
  return readAheadKb === undefined ? limitSentence : `${limitSentence}; ${setReadAhead(folder, readAheadKb)}`
}

/** Mounts of litevol that this process sees, a bind counted with its mount; at least 1. */
function countMounts(): number {
  const ours = listMounts().filter(({ fstype }) => fstype.startsWith('fuse.litevol'))
  return Math.max(1, new Set(ours.map(({ minor }) => minor)).size)
}

function applyPlan(folder: string, wanted: DirtyPlan): string {
  try {
    if (wanted.kind === 'bytes') return setBytes(folder, wanted)
    write(folder, 'max_ratio', MAX_RATIO_PERCENT)
    return `dirty limit set to ${MAX_RATIO_PERCENT} % of the dirty threshold`
  } catch (error) {
    return `dirty limit left at the kernel's default: ${messageOf(error)}`
  }
}

function thresholdOf(options: Pick<DirtyLimitOptions, 'threshold'>): number | undefined {
  return 'threshold' in options ? options.threshold : dirtyThreshold()
}

function ratioOf(threshold: number): number {
  return (threshold * MAX_RATIO_PERCENT) / 100
}

/** Has a part of the limit be the mount's own; returns what to say of it, nothing where the kernel has no such thing, or no more to give. */
function holdShare(folder: string, wanted: DirtyPlan, options: DirtyLimitOptions): string {
  const threshold = thresholdOf(options)
  if (threshold === undefined) return ''
  const limit = wanted.kind === 'bytes' ? wanted.bytes : ratioOf(threshold)
  const bytes = Math.floor(Math.min(limit * MOST_HELD, (threshold * HELD_SHARE) / (options.mounts ?? countMounts())))
  return holdBytes(folder, bytes) ? `, ${mib(bytes)} of it its own` : ''
}

/** Sets `min_bytes` (Linux 6.2); returns whether that could be done. */
function holdBytes(folder: string, bytes: number): boolean {
  try {
    write(folder, 'min_bytes', bytes)
    return true
  } catch {
    return false // then it is as any other mount
  }
}

/** Sets `max_bytes` (Linux 6.2), or the whole percent below it where the kernel has only `max_ratio`. */
function setBytes(folder: string, { bytes, memory }: Extract<DirtyPlan, { kind: 'bytes' }>): string {
  const why =
    memory === undefined
      ? 'with more, writing back begins later'
      : `a quarter of what the memory limit of ${mib(memory.limit)} leaves, divided by the mounts`
  try {
    write(folder, 'max_bytes', bytes)
    return `dirty limit set to ${mib(bytes)}: ${why}`
  } catch (error) {
    const code = systemCode(error)
    if (code !== 'ENOENT' && code !== 'EINVAL') throw error
  }
  const threshold = dirtyThreshold()
  const percent = threshold === undefined ? 0 : Math.min(MAX_RATIO_PERCENT, Math.floor((bytes / threshold) * 100))
  if (percent < 1) return `dirty limit left at the kernel's default: ${why}, too little for a whole percent`
  write(folder, 'max_ratio', percent)
  return `dirty limit set to ${percent} % of the dirty threshold: ${why}`
}

function setReadAhead(folder: string, readAheadKb: number): string {
  try {
    write(folder, 'read_ahead_kb', readAheadKb)
    return `read-ahead set to ${readAheadKb} KiB`
  } catch (error) {
    return `read-ahead left at the kernel's default: ${messageOf(error)}`
  }
}

/** `r+`: a file that is not there is not created. */
function write(folder: string, name: string, value: number): void {
  writeFileSync(`${folder}/${name}`, String(value), { flag: 'r+' })
}

/** How many bytes may be dirty in the whole system before writers are held back, or undefined when it cannot be read. */
function dirtyThreshold(): number | undefined {
  try {
    const pages = /^nr_dirty_threshold (\d+)$/m.exec(readFileSync('/proc/vmstat', 'utf8'))?.[1]
    return pages === undefined ? undefined : Number(pages) * PAGE_SIZE
  } catch {
    return undefined
  }
}

function mib(bytes: number): string {
  return `${Math.round((bytes / MIB) * 10) / 10} MiB`
}
