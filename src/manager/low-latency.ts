/**
 * Whether CPUs are to stay awake while a volume is busy (mount/low-latency.ts does it).
 * Keeps: unless somebody decides, only where waking up is slow and few CPUs stay awake for it: a virtual machine gives a CPU that
 *   sleeps back to its host, and halves the speed of small requests with that; on a large one many CPUs would look busy for one volume.
 */
import { accessSync, constants, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import type { LowLatencyMode } from '../base/index.ts'
import { latencyDevice } from '../mount/messages.ts'

/** What is looked at of a machine. */
export interface Machine {
  readonly cpus: number
  /** proc_cpuinfo(5). */
  readonly cpuinfo: string
  /** Whether this process may keep CPUs awake. */
  readonly isHoldable: boolean
}

/** A machine with more CPUs is not kept awake unasked. */
const mostCpus = 8

/** What a virtual machine's CPU says of itself, on x86; other machines are not told apart, and left alone. */
const hypervisorFlag = /^flags\s*:.* hypervisor( |$)/m

/** Whether FUSE processes keep CPUs awake; with `auto` only where they can, and where it is worth it. */
export function wantsLowLatency(mode: LowLatencyMode, look = readMachine): boolean {
  if (mode !== 'auto') return mode === 'on'
  const { cpus, cpuinfo, isHoldable } = look()
  return isHoldable && cpus <= mostCpus && hypervisorFlag.test(cpuinfo)
}

function readMachine(): Machine {
  return { cpus: availableParallelism(), cpuinfo: readFileSync('/proc/cpuinfo', 'latin1'), isHoldable: isWritable(latencyDevice) }
}

function isWritable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK | constants.W_OK)
    return true
  } catch {
    return false
  }
}
