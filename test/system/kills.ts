/**
 * The kill test (promise 2): writers on a mount whose FUSE process is killed at random moments.
 * Keeps: what a writer was told is in its manifest outside the mount, and is compared entry by entry; an error that a writer sees
 *   ends the run. As a program, `node test/system/kills.ts KILLS [SEED]`, it prints figures for both modes.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { TestMount, withMount } from '../mount/support.ts'
import { seededNumbers } from '../support.ts'

const writerProgram = fileURLToPath(new URL('kills-writer.py', import.meta.url))

/** The longest pause between two kills, in ms: short ones hit a successor while it takes over. */
const longestPauseMs = 700

/** How long the successor of a killed process may take, in ms: the test fails by then instead of waiting for ever. */
const successorLimitMs = 60_000

/** What a run found. */
export interface KillReport {
  readonly kills: number
  /** Kills of a process that had served a request within the last moments. */
  readonly busyKills: number
  /** Operations of the writers. */
  readonly operations: number
  /** Time from each kill to the next answered stat, in ms, ascending. */
  readonly pauses: readonly number[]
}

/** A consumer that must not see an error. */
class Consumer {
  readonly name: string
  readonly child: ChildProcess
  readonly #output: Promise<string>
  readonly #complaints: Promise<string>
  readonly #end: Promise<unknown[]>

  constructor(name: string, program: string, args: readonly string[]) {
    this.name = name
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    this.child = child
    this.#output = text(child.stdout)
    this.#complaints = text(child.stderr)
    this.#end = once(child, 'exit')
    child.stdin.on('error', () => undefined) // it has ended: `stop` says how
  }

  get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null
  }

  /** Has it end, and asserts that it does so in order; returns what it printed. */
  async stop(): Promise<string> {
    this.child.stdin?.end()
    await this.#end
    assert.equal(this.child.exitCode ?? this.child.signalCode, 0, `${this.name}: ${await this.#complaints}`)
    return this.#output
  }
}

/** Commits in a repository on the mount, until its standard input ends. */
const gitScript = `cd "$1" && git init -q . && git config user.email a@example && git config user.name a && n=0
while read -t 0.01 -r; [ $? -gt 128 ]; do
  n=$((n + 1)); echo "line $n" >> "file-$((n % 7))"; git add -A && git -c gc.auto=0 commit -qm "commit $n" || exit 1
done
git fsck --full --strict >/dev/null 2>&1 || exit 2
[ "$(git rev-list --count HEAD)" -eq "$n" ] || exit 3
[ -z "$(git status --porcelain)" ] || exit 4
echo "$n"`

/** Inserts numbered rows in WAL mode, one transaction each, until its standard input ends. */
const sqliteScript = `
import select, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)")
n = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    n += 1
    db.execute("INSERT INTO t VALUES (?, randomblob(2000))", (n,))
    if n % 50 == 0: db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
assert db.execute("SELECT count(*), max(n) FROM t").fetchone() == (n, n)
assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
print(n)
`

/** Runs writers on a new volume and kills its FUSE process `kills` times, at moments that `seed` decides. */
export async function killUnderWriters(kills: number, seed: number, mode: 'standby' | 'cold'): Promise<KillReport> {
  let report: KillReport | undefined
  await withMount(
    async (mount, folder) => {
      for (const name of ['one', 'two', 'git']) mkdirSync(join(mount.mountpoint, name))
      const writers = ['one', 'two'].map((name, at) => ({
        folder: join(mount.mountpoint, name),
        manifest: join(folder, `${name}.manifest`),
        consumer: new Consumer(name, 'python3', [
          writerProgram,
          join(mount.mountpoint, name),
          join(folder, `${name}.manifest`),
          String(seed + at),
        ]),
      }))
      const others = [
        new Consumer('git', 'bash', ['-c', gitScript, 'bash', join(mount.mountpoint, 'git')]),
        new Consumer('SQLite', 'python3', ['-c', sqliteScript, join(mount.mountpoint, 'rows.sqlite')]),
      ]
      const consumers = [...writers.map(({ consumer }) => consumer), ...others]
      try {
        report = { ...(await killAtRandom(mount, kills, seed, consumers)), operations: await stopAll(consumers) }
        for (const { folder: written, manifest } of writers) assertAsAcknowledged(written, manifest)
      } finally {
        for (const { child } of consumers) child.kill('SIGKILL')
      }
    },
    { mode },
  )
  if (report === undefined) throw new Error('the run did not end')
  return report
}

async function stopAll(consumers: readonly Consumer[]): Promise<number> {
  const counts = await Promise.all(consumers.map((consumer) => consumer.stop()))
  return counts.reduce((sum, count) => sum + Number(count), 0)
}

async function killAtRandom(
  mount: TestMount,
  kills: number,
  seed: number,
  consumers: readonly Consumer[],
): Promise<Omit<KillReport, 'operations'>> {
  const next = seededNumbers(seed)
  const pauses: number[] = []
  let busyKills = 0
  for (let count = 0; count < kills; count++) {
    await sleep(next() % longestPauseMs)
    for (const consumer of consumers) if (consumer.hasEnded) await consumer.stop() // fails with its complaint
    const { pid } = mount
    const before = await requests(mount)
    await sleep(next() % 20)
    if ((await requests(mount)) !== before) busyKills++
    const begin = performance.now()
    process.kill(pid, 'SIGKILL')
    await statOutside(mount.mountpoint)
    pauses.push(performance.now() - begin)
    await successorOf(mount, pid)
  }
  return { kills, busyKills, pauses: pauses.sort((a, b) => a - b) }
}

async function requests(mount: TestMount): Promise<number> {
  return (await mount.call('status', {})).requests
}

/** Waits until another process serves. */
async function successorOf(mount: TestMount, pid: number): Promise<void> {
  const deadline = Date.now() + successorLimitMs
  while (mount.pid === pid) {
    assert.ok(mount.isAlive && Date.now() < deadline, `process ${String(pid)} has no successor`)
    await sleep(2)
  }
}

/** A stat that the kernel must ask for (statfs has no cache), by another process: Node's own thread must not wait on a mount. */
async function statOutside(mountpoint: string): Promise<void> {
  const child = spawn('stat', ['-f', '-c', '%T', mountpoint], { stdio: 'ignore' })
  const [code] = (await once(child, 'exit')) as [number | null]
  assert.equal(code, 0, 'statfs failed')
}

/** Compares every entry of a folder with what its writer was told. */
function assertAsAcknowledged(folder: string, manifest: string): void {
  const lines = readFileSync(manifest, 'utf8').trimEnd().split('\n')
  const last = new Map(lines.map((line) => JSON.parse(line) as [string, [number, string] | null]))
  const present = [...last].filter(([, entry]) => entry !== null).map(([name]) => name)
  assert.deepEqual(readdirSync(folder).sort(), present.sort())
  for (const [name, entry] of last) {
    if (entry === null) continue
    const content = readFileSync(join(folder, name))
    assert.deepEqual([content.length, createHash('sha256').update(content).digest('hex')], entry, name)
  }
}

/** The value below which that part of ascending ones lies. */
function percentile(values: readonly number[], part: number): number {
  return values[Math.min(values.length - 1, Math.floor(values.length * part))] ?? 0
}

/** One line of figures. */
export function describe({ kills, busyKills, operations, pauses }: KillReport): string {
  const [p50, p95, max] = [0.5, 0.95, 1].map((part) => `${percentile(pauses, part).toFixed(0)} ms`)
  return `${String(kills)} kills (${String(busyKills)} of a busy process), ${String(operations)} operations without an error; pause p50 ${String(p50)}, p95 ${String(p95)}, longest ${String(max)}`
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [kills = 200, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number)
  for (const mode of ['standby', 'cold'] as const) {
    console.log(`${mode}, seed ${String(seed)}: ${describe(await killUnderWriters(kills, seed, mode))}`)
  }
}
