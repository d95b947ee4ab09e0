/**
 * How long consumers wait when a FUSE process is killed: `node bench/restart.ts [KILLS]`, as root. A consumer makes and removes files
 * without a pause; the process that serves is killed with SIGKILL; the pause is the time from the kill to the end of the operation
 * that was under way. Standby (a loaded successor waits, the default) and cold, interleaved in three rounds.
 * Keeps: the next kill waits until a successor stands by again, as it does in use; an error of the consumer ends the run; everything
 *   lies under one temporary folder and is gone afterwards.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readdirSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { withMount, type TestMount } from '../test/mount/support.ts'

const kills = Number(process.argv[2] ?? 30)
const rounds = 3

/** Prints begin and end of each pair of operations that took over 2 ms, on the clock that process.hrtime reads. */
const consumer = `
import os, sys, time
os.chdir(sys.argv[1])
print("begun", flush=True)
while True:
    begin = time.monotonic_ns()
    os.close(os.open("f", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.unlink("f")
    end = time.monotonic_ns()
    if end - begin > 2_000_000: print(begin, end, flush=True)
    time.sleep(0.001)
`

/** Kills as often as asked; returns the pauses in ms. */
async function measure(mount: TestMount, isStandby: boolean): Promise<number[]> {
  const child = spawn('python3', ['-c', consumer, mount.mountpoint], { stdio: ['ignore', 'pipe', 'inherit'] })
  const operations: { readonly begin: bigint; readonly end: bigint }[] = []
  const lines = createInterface({ input: child.stdout })
  const begun = once(lines, 'line')
  lines.on('line', (line) => {
    const [begin, end] = line.split(' ')
    if (begin !== undefined && end !== undefined) operations.push({ begin: BigInt(begin), end: BigInt(end) })
  })
  await begun
  const pauses: number[] = []
  try {
    for (let n = 0; n < kills / rounds; n++) {
      await until(() => isServing(mount) && (!isStandby || standsBy(mount.file)))
      await sleep(300)
      const { pid } = mount
      const at = process.hrtime.bigint()
      process.kill(pid, 'SIGKILL')
      const find = (): (typeof operations)[number] | undefined => operations.find(({ end }) => end > at)
      await until(() => find() !== undefined && mount.pid !== pid)
      pauses.push(Number((find()?.end ?? at) - at) / 1e6)
      assert.equal(child.exitCode, null, 'the consumer met an error')
    }
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  return pauses
}

async function until(isSo: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000
  while (!isSo()) {
    assert.ok(Date.now() < deadline, 'waited for a minute')
    await sleep(5)
  }
}

const isServing = (mount: TestMount): boolean => mount.isAlive && titles(mount.file).some((title) => title.startsWith('litevol: serving'))

/** Whether a successor has loaded everything. */
const standsBy = (file: string): boolean => titles(file).some((title) => title.startsWith('litevol: standing by'))

function titles(file: string): string[] {
  const found: string[] = []
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const title = readFileSync(join('/proc', pid, 'cmdline'), 'latin1').replace(/\0[^]*$/, '')
      if (title.endsWith(file)) found.push(title)
    } catch {
      // it has ended
    }
  }
  return found
}

const at = (values: readonly number[], part: number): string =>
  ([...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))] ?? 0).toFixed(0)

const results = { standby: [] as number[], cold: [] as number[] }
for (let round = 0; round < rounds; round++) {
  for (const mode of ['standby', 'cold'] as const) {
    await withMount(async (mount) => void results[mode].push(...(await measure(mount, mode === 'standby'))), { mode, logLevel: 'error' })
  }
}
console.log('| successor | kills | p50, ms | p95, ms | longest, ms |\n|---|--:|--:|--:|--:|')
for (const [mode, pauses] of Object.entries(results))
  console.log(`| ${mode} | ${String(pauses.length)} | ${at(pauses, 0.5)} | ${at(pauses, 0.95)} | ${at(pauses, 1)} |`)
console.log(`\n${String(cpus().length)} cores, Node ${process.version}, load average ${loadavg()[0]?.toFixed(1) ?? ''}`)
