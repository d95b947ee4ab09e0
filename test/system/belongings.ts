/**
 * What a service has on the machine at this moment: descriptors, processes, mounts, files. For tests that look for leaks.
 * Keeps: what differs from run to run by nature (numbers of sockets, pipes, files in /proc) is left out, so that two looks compare.
 */
import { readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { listMounts } from '../../src/fuse/index.ts'

/** What each descriptor of a process leads to, sorted. */
export function descriptorsOf(pid: number): string[] {
  const folder = `/proc/${String(pid)}/fd`
  const targets = readdirSync(folder).map((fd) => readLink(join(folder, fd)))
  return targets.filter((target) => target !== undefined).map((target) => target.replace(/\[?\d+\]?( \(deleted\))?$/, '')).sort() // prettier-ignore
}

/** The processes that a process has started and not seen end, dead ones too. */
export function childrenOf(pid: number): number[] {
  const folder = `/proc/${String(pid)}/task`
  const lists = readdirSync(folder).map((thread) => readFileSync(join(folder, thread, 'children'), 'utf8'))
  return lists.flatMap((list) => list.split(' ').filter((text) => text !== '').map(Number)) // prettier-ignore
}

/** The memory that is a process's own, in MiB: without what it shares with others, its program for one. */
export const memoryOf = (pid: number): number => memoryField(pid, 'Anonymous')

/** The same with its part of what it shares (proportional set size), in MiB. */
export const pssOf = (pid: number): number => memoryField(pid, 'Pss')

/** A line of proc_pid_smaps_rollup(5), in MiB. */
function memoryField(pid: number, name: string): number {
  const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${String(pid)}/smaps_rollup`, 'utf8'))?.[1]
  return Math.round((Number(kib) / 1024) * 10) / 10
}

/** The processes of litevol whose command line names something below `folder`, by their number. */
export function processesBelow(folder: string): Map<number, string> {
  const found = new Map<number, string>()
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const command = readCommand(pid)
    if (command.includes(`${folder}/`) && /keeper\.sh|litevol: |mount\/main/.test(command)) found.set(Number(pid), command)
  }
  return found
}

/** The mountpoints of volumes below `folder`, sorted. */
export function mountsBelow(folder: string): string[] {
  const ours = listMounts().filter(({ fstype, mountpoint }) => fstype.startsWith('fuse.litevol') && mountpoint.startsWith(`${folder}/`))
  return ours.map(({ mountpoint }) => mountpoint).sort()
}

/** Everything below `folder`, as paths from there, sorted; mountpoints are named, not entered. */
export function filesBelow(folder: string): string[] {
  const mountpoints = new Set(mountsBelow(folder))
  const list = (path: string): string[] =>
    readdirSync(join(folder, path), { withFileTypes: true }).flatMap((entry) => {
      const below = join(path, entry.name)
      return entry.isDirectory() && !mountpoints.has(join(folder, below)) ? [below, ...list(below)] : [below]
    })
  return list('').sort()
}

function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch {
    return undefined // it was closed since, as that of readdir itself
  }
}

function readCommand(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    return '' // it has ended since
  }
}
