/**
 * Memory cgroups of a test, cgroups(7), v1 and v2: a limit under which processes are started.
 * Keeps: a process is in its group before its program is loaded, so all of its memory counts; a closed group is gone, and with it
 *   whatever was left running in it.
 * Leaves: what is done under the limit to the test.
 */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { messageOf } from '../../src/base/index.ts'
import { listMounts } from '../../src/fuse/mountinfo.ts'
import { until } from '../support.ts'

/** What a hierarchy calls its files. */
const names = {
  v1: { limit: 'memory.limit_in_bytes', current: 'memory.usage_in_bytes', peak: 'memory.max_usage_in_bytes', kills: 'memory.oom_control' },
  v2: { limit: 'memory.max', current: 'memory.current', peak: 'memory.peak', kills: 'memory.events' },
} as const

type Version = keyof typeof names

/** Where groups can be made. */
interface Place {
  readonly version: Version
  readonly folder: string
}

/** Counts the groups of this process: each has a name of its own. */
let made = 0

export class MemoryGroup {
  readonly #version: Version
  readonly #folder: string

  private constructor(version: Version, folder: string) {
    this.#version = version
    this.#folder = folder
  }

  /** Makes a group below that of this process, or beside it. Throws what `whyNone` tells. */
  static make(limitBytes: number): MemoryGroup {
    const { version, folder } = findPlace()
    const group = new MemoryGroup(version, join(folder, `litevol-test-${String(process.pid)}-${String(++made)}`))
    mkdirSync(group.#folder)
    try {
      group.#write(names[version].limit, String(limitBytes))
    } catch (error) {
      rmdirSync(group.#folder)
      throw error
    }
    return group
  }

  /** Why no group can be made on this machine, as the `skip` of a test; false when one can. */
  static whyNone(): string | false {
    try {
      const group = MemoryGroup.make(2 ** 30)
      rmdirSync(group.#folder)
      return false
    } catch (error) {
      return `no memory cgroup can be made here: ${messageOf(error)}`
    }
  }

  /** The words before a command that start it in this group. */
  get launcher(): readonly string[] {
    return ['sh', '-c', 'echo $$ > "$0" && exec "$@"', join(this.#folder, 'cgroup.procs')]
  }

  /** The most bytes that it had in use; undefined before Linux 5.19 with v2. */
  get peakBytes(): number | undefined {
    try {
      return Number(this.#read(names[this.#version].peak))
    } catch {
      return undefined
    }
  }

  /** How many of its processes were killed for want of memory. */
  get kills(): number {
    return Number(/^oom_kill (\d+)$/m.exec(this.#read(names[this.#version].kills))?.[1])
  }

  /** Ends what still runs in it and removes it. */
  async close(): Promise<void> {
    await until('the group is empty', () => {
      const pids = this.#read('cgroup.procs').split('\n').filter((pid) => pid !== '') // prettier-ignore
      for (const pid of pids) killIfThere(Number(pid))
      return pids.length === 0
    })
    rmdirSync(this.#folder)
  }

  #read(name: string): string {
    return readFileSync(join(this.#folder, name), 'utf8')
  }

  #write(name: string, text: string): void {
    writeFileSync(join(this.#folder, name), text, { flag: 'r+' })
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended since.
  }
}

/** The memory hierarchy of v1 where there is one, else that of v2. */
function findPlace(): Place {
  const lines = readFileSync('/proc/self/cgroup', 'utf8').trim().split('\n').map((line) => line.split(':')) // prettier-ignore
  const memory = lines.find(([, controllers]) => controllers?.split(',').includes('memory'))
  if (memory !== undefined) return { version: 'v1', folder: folderOf('cgroup', memory.slice(2).join(':')) }
  const unified = lines.find(([hierarchy]) => hierarchy === '0')
  if (unified === undefined) throw new Error('neither cgroup v1 with a memory controller nor v2')
  return { version: 'v2', folder: delegated(folderOf('cgroup2', unified.slice(2).join(':'))) }
}

/** The folder of a group, as the hierarchy is mounted here. */
function folderOf(fstype: 'cgroup' | 'cgroup2', path: string): string {
  const isOurs = ({ superOptions }: { readonly superOptions: readonly string[] }): boolean =>
    fstype === 'cgroup2' || superOptions.includes('memory')
  const mount = listMounts().find((one) => one.fstype === fstype && isOurs(one))
  if (mount === undefined) throw new Error(`no ${fstype} with memory is mounted`)
  const inside = relative(mount.root, path)
  return inside.startsWith('..') ? mount.mountpoint : join(mount.mountpoint, inside)
}

/**
 * The nearest group from `folder` up whose children may have a memory limit (v2): one that hands the controller on, or can be told
 * to, which the kernel refuses where it has processes of its own and is not the root.
 */
function delegated(folder: string): string {
  for (let at = folder; ; at = dirname(at)) {
    const file = join(at, 'cgroup.subtree_control')
    if (readFileSync(file, 'utf8').trim().split(' ').includes('memory')) return at
    try {
      writeFileSync(file, '+memory', { flag: 'r+' })
      return at
    } catch (error) {
      if (!isGroup(dirname(at))) throw error
    }
  }
}

function isGroup(folder: string): boolean {
  try {
    readFileSync(join(folder, 'cgroup.subtree_control'))
    return true
  } catch {
    return false
  }
}
