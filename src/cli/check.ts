/**
 * `litevol check FILE`: what is wrong with a volume file, place by place.
 * Keeps: the file and its folder stay as they are; while it runs no other litevol opens the file for writing;
 *   exit 0: sound; 1: something is wrong; 2: it could not be checked.
 * Leaves: the checking to engine.
 */
import { existsSync, realpathSync } from 'node:fs'
import { resolve } from 'node:path'
import { ErrnoError, messageOf } from '../base/index.ts'
import { Owner, checkVolume, type CheckProgress, type Finding } from '../engine/index.ts'
import { exitCodes } from './exit-codes.ts'

export interface CheckFlags {
  readonly deep: boolean
  /** Also a file that somebody has open. */
  readonly force: boolean
  readonly json: boolean
}

/** Checks and prints; returns the exit code. */
export async function checkFile(file: string, flags: CheckFlags): Promise<number> {
  try {
    const path = existsSync(file) ? realpathSync(file) : resolve(file)
    const findings = await checkOwned(path, flags)
    process.stdout.write(flags.json ? `${JSON.stringify({ file, deep: flags.deep, findings })}\n` : describe(file, flags, findings))
    return findings.length === 0 ? exitCodes.ok : exitCodes.findings
  } catch (error) {
    const hint = error instanceof ErrnoError && error.hint !== undefined ? ` (${error.hint})` : ''
    process.stderr.write(`litevol: ${messageOf(error)}${hint}\n`)
    return exitCodes.unchecked
  }
}

/** Nobody who owns the file is disturbed: with `force` one state of it is read, as any reader does. */
async function checkOwned(file: string, { deep, force }: CheckFlags): Promise<Finding[]> {
  const owner = await Owner.acquire(file, 0).catch((error: unknown) => {
    if (!(error instanceof ErrnoError) || error.problem !== 'held') throw error
    if (force) return undefined
    throw new ErrnoError('EBUSY', error.message, { hint: 'unmount it, or check an export of it, or take --force to check its last commit' })
  })
  try {
    return checkVolume(file, { deep, isLive: owner === undefined, onProgress: showProgress() })
  } finally {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
    owner?.release()
  }
}

/** One line that changes, on a terminal only. */
function showProgress(): (progress: CheckProgress) => void {
  if (!process.stderr.isTTY) return () => undefined
  return ({ step, done, total }) => {
    const measure = done === undefined || total === undefined ? '' : ` ${String(Math.floor((done / Math.max(1, total)) * 100))} %`
    process.stderr.write(`\r\x1b[Kchecking ${step}${measure}`)
  }
}

function describe(file: string, { deep }: CheckFlags, findings: readonly Finding[]): string {
  const lines = findings.map(({ rule, place }) => `${place}: breaks "${rule}"\n`)
  const summary =
    findings.length === 0
      ? `sound${deep ? ', every chunk read' : ''}`
      : `${String(findings.length)} ${findings.length === 1 ? 'finding' : 'findings'}`
  return `${lines.join('')}${file}: ${summary}\n`
}
