/**
 * Promise 2: the FUSE process of a mount is killed at random moments, and is replaced; sometimes its successor is killed as well.
 * Keeps: no consumer sees an error, but where the kernel cannot send requests again: there each kill may cost one request, with EIO.
 */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { identifyProcess } from '../../../src/manager/process-identity.ts'
import { withMount, type TestMount } from '../../mount/support.ts'
import { seededNumbers } from '../../support.ts'
import { Writer, startGit, startInserter, sum, type Consumer } from './consumers.ts'
import { describeTimes, type KillReport } from './report.ts'

/** The longest pause between two kills, in ms: short ones hit a successor while it takes over. */
const longestPauseMs = 700

/** How long after a kill its successor may be killed as well, in ms. */
const longestTakeoverMs = 400

/** How long a process may take to say how it does, in ms. */
const callLimitMs = 2000

/** How long the successor of a killed process may take, in ms: the test fails by then instead of waiting for ever. */
const successorLimitMs = 60_000

/** `standby` and `cold` as the keeper has them; `no-resend` is cold, as on Linux before 6.9. */
export type ProcessMode = 'standby' | 'cold' | 'no-resend'

export interface ProcessReport extends KillReport {
  /** Kills of a process that had served a request within the last moments. */
  readonly busyKills: number
}

/** Runs consumers on a new volume and kills its FUSE process `kills` times, at moments that `seed` decides. */
export async function killProcesses(kills: number, seed: number, mode: ProcessMode): Promise<ProcessReport> {
  if (mode === 'no-resend') process.env['LITEVOL_RESEND'] = 'off'
  let report: ProcessReport | undefined
  try {
    await withMount(
      async (mount, folder) => {
        report = await killUnderConsumers(mount, folder, { kills, seed, mode })
      },
      { mode: mode === 'standby' ? 'standby' : 'cold', logLevel: mode === 'no-resend' ? 'silent' : 'warn' },
    )
  } finally {
    Reflect.deleteProperty(process.env, 'LITEVOL_RESEND')
  }
  if (report === undefined) throw new Error('the run did not end')
  return report
}

interface Run {
  readonly kills: number
  readonly seed: number
  readonly mode: ProcessMode
}

async function killUnderConsumers(mount: TestMount, folder: string, { kills, seed, mode }: Run): Promise<ProcessReport> {
  const isLossy = mode === 'no-resend'
  const writers = ['one', 'two', ...(isLossy ? ['three'] : [])].map((name, at) => {
    mkdirSync(join(mount.mountpoint, name))
    return new Writer(join(mount.mountpoint, name), join(folder, `${name}.manifest`), seed + at, isLossy ? 'lossy' : 'strict')
  })
  const consumers: Consumer[] = [...writers]
  if (!isLossy) {
    mkdirSync(join(mount.mountpoint, 'git'))
    consumers.push(startGit(join(mount.mountpoint, 'git')))
    consumers.push(startInserter(mount.mountpoint, join(folder, 'rows.log'), 'strict'))
  }
  try {
    const { busyKills, pauses } = await killAtRandom(mount, { kills, seed, mode }, consumers)
    const { operations, errors } = sum(await Promise.all(consumers.map((consumer) => consumer.stop())))
    for (const writer of writers) writer.assertAsAcknowledged()
    assert.ok(errors <= kills, `${String(errors)} errors after ${String(kills)} kills`)
    return { kills, busyKills, operations, errors, more: [`${String(busyKills)} of a busy process`, describeTimes('pause', pauses)] }
  } finally {
    for (const consumer of consumers) consumer.kill()
  }
}

async function killAtRandom(mount: TestMount, { kills, seed, mode }: Run, consumers: readonly Consumer[]) {
  const next = seededNumbers(seed)
  const pauses: number[] = []
  let busyKills = 0
  for (let count = 0; count < kills; count++) {
    await sleep(next() % longestPauseMs)
    for (const consumer of consumers) await consumer.assertRuns()
    const { pid } = mount
    const before = await requests(mount)
    await sleep(next() % 20)
    if ((await requests(mount)) !== before) busyKills++
    const begin = performance.now()
    process.kill(pid, 'SIGKILL')
    const isSingle = count + 1 === kills || next() % 4 > 0
    if (!isSingle) {
      await sleep(next() % longestTakeoverMs)
      killChildren(mount.keeper.pid)
      count++
    }
    const answer = await askOutside(mount.mountpoint)
    assert.ok(answer === 0 || mode === 'no-resend', 'statfs failed')
    if (isSingle) pauses.push(performance.now() - begin)
    await untilServed(mount, pid)
  }
  return { busyKills, pauses }
}

/** Kills the successor, wherever its takeover is, and one that stands by. */
function killChildren(keeper: number): void {
  spawnSync('pkill', ['-KILL', '-P', String(keeper)])
}

/** Requests served so far; asked again when the process dies over it. */
async function requests(mount: TestMount): Promise<number> {
  const deadline = Date.now() + successorLimitMs
  for (;;) {
    const reply = await Promise.race([mount.call('status', {}), sleep(callLimitMs, undefined, { ref: false })])
    if (reply !== undefined) return reply.requests
    assert.ok(mount.isAlive && Date.now() < deadline, 'nobody serves')
  }
}

/** Waits until another process than `pid` serves, and lives. */
async function untilServed(mount: TestMount, pid: number): Promise<void> {
  const deadline = Date.now() + successorLimitMs
  while (mount.pid === pid || identifyProcess(mount.pid) === undefined) {
    assert.ok(mount.isAlive && Date.now() < deadline, `process ${String(pid)} has no successor`)
    await sleep(2)
  }
}

/** A question that the kernel must pass on (statfs has no cache), by another process: Node's own thread must not wait on a mount. */
async function askOutside(mountpoint: string): Promise<number | null> {
  const [code] = (await once(spawn('stat', ['-f', '-c', '%T', mountpoint], { stdio: 'ignore' }), 'exit')) as [number | null]
  return code
}
