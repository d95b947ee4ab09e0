/**
 * What must hold on this machine before the manager serves: a list of checks, each with a verdict, a reason and a cure.
 * Keeps: a check never throws: what it cannot find out is a verdict too. Two of them mend what they find (the mount root's sharing,
 *   stale mounts).
 * Leaves: showing the list to main.ts and api, ending the process to cli.
 */
import { accessSync, constants, closeSync, openSync, readFileSync, statfsSync, unlinkSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { ErrnoError, messageOf, type Logger } from '../base/index.ts'
import { loadAddon, openFuseDevice } from '../fuse/mount.ts'
import { makeFolderDurably } from './atomic-file.ts'
import { assertReachesHost, assertShared, findOtherRoot } from './host-reach.ts'
import { holderOf, shareMountRoot, type Sharing } from './mount-root.ts'
import { clearStaleMountpoints } from './mountpoints.ts'
import { latencyDevice } from '../mount/messages.ts'
import type { ManagerOptions } from './options.ts'

export type Verdict = 'ok' | 'warn' | 'fail'

export interface Check {
  readonly name: string
  readonly verdict: Verdict
  /** What was found. */
  readonly reason: string
  /** What to do about it; empty when ok. */
  readonly cure: string
}

/** What a check found; `ok` without a cure. */
type Finding = Omit<Check, 'name'>

export interface Preflight {
  readonly checks: readonly Check[]
  /** What the manager undoes when it stops. */
  readonly sharing: Sharing
}

const leastNodeMajor = 24
/** Bit of CapEff, linux/capability.h. */
const CAP_SYS_ADMIN = 21n
/** The first kernel with FUSE_NOTIFY_RESEND. */
const resendKernel = [6, 9] as const
/** The checks without which no test mount is tried. */
const needsToMount: readonly string[] = ['CAP_SYS_ADMIN', '/dev/fuse']
const comfortableFreeBytes = 2 ** 30

/**
 * Runs all checks, in the order in which one is of use to the next. `openStore` opens the store, which takes the lock of the data
 * root, and returns how many volumes it has: without the lock the mounts found may be those of another manager, and stay.
 */
export async function runPreflight(options: ManagerOptions, openStore: () => number, log: Logger): Promise<Preflight> {
  let sharing: Sharing = 'nothing'
  let isOurs = false
  const checks: Check[] = []
  const isMountable = (): boolean => checks.every(({ name, verdict }) => verdict !== 'fail' || !needsToMount.includes(name))
  const rows: readonly (readonly [string, () => Finding | Promise<Finding>])[] = [
    ['node version', checkNode],
    ['CAP_SYS_ADMIN', checkCapability],
    ['/dev/fuse', checkDevice],
    ['kernel', checkKernel],
    ...(options.driver === 'fuse-native' ? ([['fuse-native', checkNative]] as const) : []),
    ['data root', () => checkWritable(options.dataRoot)],
    ['store', () => {
      const volumes = openStore()
      isOurs = true
      return ok(`${String(volumes)} volumes`)
    }],
    ['disk space', () => checkSpace(options.dataRoot)],
    ['mount root', () => {
      if (options.isHostElsewhere) return checkReach(options, isMountable(), log)
      sharing = shareMountRoot(options.mountRoot)
      return ok(`${options.mountRoot} is shared${sharing === 'nothing' ? '' : ' (made so)'}`)
    }],
    ['stale mounts', () => (isOurs ? clearStale(options, log) : ok('left alone'))],
    ['dirty limit', checkDirtyLimit],
    ...(options.isLowLatency ? ([['low latency', checkLowLatency]] as const) : []),
  ] // prettier-ignore
  for (const [name, check] of rows) checks.push({ name, ...(await find(check)) })
  return { checks, sharing }
}

/** The worst verdict of a list. */
export function worstVerdict(checks: readonly Check[]): Verdict {
  return (['fail', 'warn'] as const).find((verdict) => checks.some((check) => check.verdict === verdict)) ?? 'ok'
}

/** The list as a table for a terminal: one line a check, a cure below what needs one. */
export function formatChecks(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length))
  const lines = checks.map(({ name, verdict, reason, cure }) => {
    const indented = cure === '' ? '' : `\n${' '.repeat(width + 8)}${cure}`
    return `${verdict.padEnd(6)}${name.padEnd(width + 2)}${reason}${indented}`
  })
  return `${lines.join('\n')}\n`
}

async function find(check: () => Finding | Promise<Finding>): Promise<Finding> {
  try {
    return await check()
  } catch (error) {
    const hint = error instanceof ErrnoError ? error.hint : undefined
    return { verdict: 'fail', reason: messageOf(error), cure: hint ?? 'see the reason' }
  }
}

function ok(reason: string): Finding {
  return { verdict: 'ok', reason, cure: '' }
}

function checkNode(): Finding {
  const major = Number(process.versions.node.split('.')[0])
  if (major >= leastNodeMajor) return ok(process.version)
  return { verdict: 'fail', reason: `${process.version} runs this`, cure: `run it with Node ${String(leastNodeMajor)} or later` }
}

function checkCapability(): Finding {
  const text = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  const hasIt = ((BigInt(`0x${text ?? '0'}`) >> CAP_SYS_ADMIN) & 1n) === 1n
  if (hasIt) return ok('may mount')
  return { verdict: 'fail', reason: 'may not mount', cure: 'run as root; give a container --privileged or --cap-add SYS_ADMIN' }
}

function checkDevice(): Finding {
  closeSync(openFuseDevice())
  return ok('can be opened')
}

function checkKernel(): Finding {
  const [major = 0, minor = 0] = release().split('.').map(Number)
  const hasResend = major > resendKernel[0] || (major === resendKernel[0] && minor >= resendKernel[1])
  return ok(`${release()}, ${hasResend ? 'can' : 'cannot'} resend requests to a restarted FUSE process`)
}

function checkNative(): Finding {
  loadAddon()
  return ok('can be loaded')
}

function checkWritable(dataRoot: string): Finding {
  makeFolderDurably(dataRoot)
  const probe = join(dataRoot, `.probe-${String(process.pid)}`)
  try {
    writeFileSync(probe, '')
    unlinkSync(probe)
  } catch (error) {
    return { verdict: 'fail', reason: `${dataRoot}: ${messageOf(error)}`, cure: 'make it writable, or name another with LITEVOL_DATA_ROOT' }
  }
  return ok(`${dataRoot} is writable`)
}

function checkSpace(dataRoot: string): Finding {
  const { bavail, bsize } = statfsSync(dataRoot)
  const free = bavail * bsize
  const reason = `${String(Math.floor(free / 2 ** 20))} MiB free for ${dataRoot}`
  if (free >= comfortableFreeBytes) return ok(reason)
  return { verdict: 'warn', reason, cure: 'make room: delete volumes or files in them' } // no fail: the service is how room is made
}

async function clearStale(options: ManagerOptions, log: Logger): Promise<Finding> {
  const cleared = await clearStaleMountpoints(options, log)
  return ok(cleared === 0 ? 'none' : `${String(cleared)} of an earlier run cleared`)
}

async function checkReach(options: ManagerOptions, isMountable: boolean, log: Logger): Promise<Finding> {
  const { mountRoot, hostMountRoot } = options
  assertShared(options)
  if (!isMountable) return ok(`${mountRoot} is shared; no test mount was made, for what failed above`)
  await assertReachesHost(options, log)
  const other = findOtherRoot(options)
  if (other === undefined) return ok(`a test mount in ${mountRoot} reached the host, where it is ${hostMountRoot}`)
  const reason = `a test mount in ${mountRoot} reached the host, but ${other} is bound there: host_path in replies is wrong`
  return { verdict: 'warn', reason, cure: `set LITEVOL_HOST_MOUNT_ROOT to ${other}, or to where that is on the host` }
}

/** Where the limits of all mounts are (dirty-limit.ts reaches them by links in /sys/class/bdi). */
const limitsFolder = '/sys/devices/virtual/bdi'

function checkLowLatency(): Finding {
  try {
    closeSync(openSync(latencyDevice, 'r+'))
    return ok('CPUs can be kept awake')
  } catch (error) {
    const cure = `give a container --device ${latencyDevice}; a kernel may lack it (CONFIG_CPU_IDLE)`
    return { verdict: 'warn', reason: `CPUs cannot be kept awake: ${messageOf(error)}`, cure }
  }
}

function checkDirtyLimit(): Finding {
  try {
    accessSync(limitsFolder, constants.W_OK)
    const holder = holderOf(limitsFolder)
    if (holder?.options.includes('ro') === false && !holder.superOptions.includes('ro')) return ok('can be raised')
  } catch {
    // told below
  }
  return {
    verdict: 'warn',
    reason: `${limitsFolder} is not writable: the kernel lets a volume hold little that is not written back, random writes will be slower`,
    cure: `give a container -v ${limitsFolder}:${limitsFolder}, or --privileged`,
  }
}
