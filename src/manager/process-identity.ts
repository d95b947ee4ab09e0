/**
 * Whether a process is still the one it was, and alive: asked of /proc, synchronously.
 * Keeps: a number that was given to another process meanwhile is not taken for it; one that has begun to exit counts as gone,
 *   for the kernel may have dropped its locks.
 */
import { readFileSync } from 'node:fs'

/** A process for good: its number, and when it started in clock ticks since the boot. */
export interface ProcessIdentity {
  readonly pid: number
  readonly startTime: string
}

/** Bit of `flags` in /proc/PID/stat: the process is exiting (PF_EXITING of linux/sched.h). */
const exiting = 0x4

/** Fields of /proc/PID/stat behind the name, counted from `state` (proc(5)): 3, 9 and 22. */
const [stateField, flagsField, startTimeField] = [0, 6, 19]

/** The process that has this number now; undefined when there is none. */
export function identifyProcess(pid: number): ProcessIdentity | undefined {
  const startTime = readStat(pid)?.[startTimeField]
  return startTime === undefined ? undefined : { pid, startTime }
}

/** Whether it runs: neither ended nor exiting. What it held a moment before this was asked, it held. */
export function isRunning({ pid, startTime }: ProcessIdentity): boolean {
  const stat = readStat(pid)
  if (stat?.[startTimeField] !== startTime || /^[ZX]/.test(stat[stateField] ?? 'X')) return false
  return (Number(stat[flagsField]) & exiting) === 0
}

function readStat(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${String(pid)}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ') // the name before may hold spaces and brackets
  } catch {
    return undefined
  }
}
