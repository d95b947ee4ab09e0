/**
 * The leak loops: the same rounds again and again, and what the processes have after the first of them and after the last.
 * Keeps: a figure is the least of a third of the rounds, so that what comes and goes (a heap before its collection, a connection
 *   that closes) does not count; what the first third has at least, the last may not have more of, memory but for `slackMib`.
 *   As a program, `node test/system/leaks.ts [SHARE]`, it runs the long loops, or that share of them.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { until } from '../support.ts'
import { shell } from '../mount/support.ts'
import { childrenOf, descriptorsOf, filesBelow, memoryOf, mountsBelow, processesBelow } from './belongings.ts'
import { RaceClient } from './races-client.ts'
import { Service, withRoots } from './support.ts'

/** What is measured, by its name: counts, and memory in MiB. */
export type Sample = Readonly<Record<string, number>>

export interface LeakReport {
  readonly rounds: number
  /** The least of the first third after the warm-up, and of the last. */
  readonly first: Sample
  readonly last: Sample
}

/** How much more memory a process may have at the end, in MiB: heaps settle over hundreds of rounds, and short loops only see great leaks. */
const slackMib = (rounds: number): number => (rounds >= 100 ? 6 : 16)

/** Rounds that are not counted: what is loaded or opened once. */
const warmUpRounds = 3

/** A small heap is collected often, so that what stays is seen; FUSE processes do not get this variable. */
const environment = { LITEVOL_EXPORT_LEASE: '1', NODE_OPTIONS: '--max-semi-space-size=1' }

/** One volume in a service of its own. */
interface Place {
  readonly service: Service
  readonly client: RaceClient
  readonly folder: string
  readonly id: string
  readonly mountpoint: string
}

/** Mount, work, unmount. */
export function loopMounts(rounds: number): Promise<LeakReport> {
  return withVolume(async (place) => {
    const round = async (): Promise<void> => {
      await mount(place)
      await shell('cd "$1"; head -c 300K /dev/urandom > a; mkdir -p d; cp a d/b; mv d/b d/c; rm a; sync d/c', place.mountpoint)
      await ask(place, 'GET', 'stat')
      await ask(place, 'DELETE', 'mount')
    }
    return loop(rounds, round, () => belongings(place))
  })
}

/** The WAL is open once each for serving, fsync, checkpoints, the beginning of snapshots, and the connection that waits for the next one. */
const walDescriptors = 5
const isWal = (target: string): boolean => target.endsWith('-wal')

/** Export whole, cut, and the rest of it. */
export function loopExports(rounds: number): Promise<LeakReport> {
  return withVolume(async (place) => {
    await mount(place)
    await shell('head -c 3M /dev/urandom > "$1/a"; sync "$1/a"', place.mountpoint)
    const round = async (number: number): Promise<void> => {
      await shell('echo "$2" >> "$1/b"', place.mountpoint, String(number))
      await ask(place, 'GET', 'export')
      await shell('echo "$2" >> "$1/b"', place.mountpoint, String(number))
      const cut = await place.client.call('GET', `/volumes/${place.id}/export`, undefined, {}, 100_000)
      const tag = cut.headers.etag ?? assert.fail('no ETag')
      const rest = await place.client.call('GET', `/volumes/${place.id}/export`, undefined, { range: 'bytes=100000-', 'if-range': tag })
      assert.deepEqual([cut.status, rest.status, rest.isWhole], [200, 206, true])
    }
    // A lease lasts a second: looked at when the last is over.
    const sample = async (): Promise<Sample> => {
      await until('no snapshot is held', () => descriptorsOf(pidOf(place)).every((target) => !target.includes('.litevol')))
      const { pid } = JSON.parse(await ask(place, 'GET', 'mount')) as { readonly pid: number }
      await until('the FUSE process has let go of all', () => descriptorsOf(pid).filter(isWal).length <= walDescriptors)
      return { ...belongings(place), ...(await servingProcess(place)) }
    }
    return loop(rounds, round, sample, Math.ceil(rounds / 9))
  })
}

/** Replacing the FUSE process under a consumer with open files. */
export function loopRestarts(rounds: number): Promise<LeakReport> {
  return withVolume(async (place) => {
    await mount(place)
    // Two files stay open all the while, one is opened anew in each round and held over the restart.
    const holder = spawn('python3', ['-uc', holderScript, place.mountpoint], { stdio: ['pipe', 'pipe', 'inherit'] })
    const answers = createInterface({ input: holder.stdout })[Symbol.asyncIterator]()
    const round = async (): Promise<void> => {
      holder.stdin.write('write\n')
      assert.equal((await answers.next()).value, 'written')
      await ask(place, 'POST', 'mount/restart')
    }
    // Keeper, FUSE process, and the one that stands by, which is started after each restart.
    const sample = async (): Promise<Sample> => {
      for (;;) {
        await until('one stands by again', () => (belongings(place)['processes'] ?? 0) >= 3 && isWaiting(keeperOf(place)))
        const found = { ...belongings(place), ...runFolder(place), ...(await servingProcess(place)) }
        if (isWaiting(keeperOf(place))) return found // and so it did all the while
      }
    }
    try {
      return await loop(rounds, round, sample)
    } finally {
      holder.stdin.end()
      await once(holder, 'exit')
      assert.equal(holder.exitCode, 0, 'the consumer saw no error')
    }
  })
}

const holderScript = `
import os, sys
os.chdir(sys.argv[1])
kept = [open(f"kept{n}", "wb", buffering=0) for n in range(2)]
held = None
for round, line in enumerate(sys.stdin):
    before, held = held, open(f"held{round % 3}", "wb", buffering=0)
    if before: before.close()
    for n in range(20):
        with open(f"short{n}", "wb") as file: file.write(b"x" * 5000)
    for file in kept + [held]:
        file.write(b"x" * 100)
        os.fsync(file.fileno())
    os.mkdir("d"); os.rename("d", "e"); os.rmdir("e")
    print("written")
`

/** Runs the rounds and compares; `every` so many rounds a sample is taken. */
async function loop(
  rounds: number,
  round: (number: number) => Promise<void>,
  sample: () => Sample | Promise<Sample>,
  every = 1,
): Promise<LeakReport> {
  const samples: Sample[] = []
  for (let number = 0; number < rounds + warmUpRounds; number++) {
    await round(number)
    if (number >= warmUpRounds && (number - warmUpRounds) % every === 0) samples.push(await sample())
  }
  const third = Math.ceil(samples.length / 3)
  const [first, last] = [least(samples.slice(0, third)), least(samples.slice(-third))]
  return { rounds, first, last }
}

/** Asserts that nothing has grown. */
export function assertFlat({ rounds, first, last }: LeakReport): void {
  for (const [name, value] of Object.entries(last)) {
    const before = first[name] ?? 0
    const slack = name.endsWith('MiB') ? slackMib(rounds) : 0
    assert.ok(value <= before + slack, `${name}: ${String(before)} at first, ${String(value)} at last`)
  }
}

function least(samples: readonly Sample[]): Sample {
  const names = Object.keys(samples[0] ?? {})
  return Object.fromEntries(names.map((name) => [name, Math.min(...samples.map((sample) => sample[name] ?? 0))]))
}

async function withVolume(work: (place: Place) => Promise<LeakReport>): Promise<LeakReport> {
  let report: LeakReport | undefined
  await withRoots(async (roots, folder) => {
    mkdirSync(join(folder, 'tmp'))
    const service = await Service.start(roots, { ...environment, TMPDIR: join(folder, 'tmp') })
    const client = new RaceClient(service.url, () => 0, new Map())
    try {
      const id = await service.create('looped')
      report = await work({ service, client, folder, id, mountpoint: join(roots.mountRoot, id) })
      client.close()
      await service.stop()
    } finally {
      if (service.child.exitCode === null) service.child.kill('SIGKILL')
    }
  })
  if (report === undefined) throw new Error('the loop did not end')
  return report
}

async function mount(place: Place): Promise<void> {
  await ask(place, 'POST', 'mount')
}

async function ask({ client, id }: Place, method: string, what: string): Promise<string> {
  const { status, body } = await client.call(method, `/volumes/${id}/${what}`)
  assert.ok(status >= 200 && status < 300, `${method} ${what}: ${String(status)} ${body}`)
  return body
}

function pidOf({ service }: Place): number {
  return service.child.pid ?? 0
}

/** Of the manager, and of the machine as far as it is this service's. */
function belongings(place: Place): Sample {
  const { service, folder } = place
  const { dataRoot, mountRoot } = service.roots
  return {
    'descriptors of the manager': descriptorsOf(pidOf(place)).length,
    'children of the manager': childrenOf(pidOf(place)).length,
    'memory of the manager, MiB': memoryOf(pidOf(place)),
    processes: processesBelow(folder).size,
    mounts: mountsBelow(folder).length,
    files: [dataRoot, `${mountRoot}-run`, join(folder, 'tmp')].map(filesBelow).flat().length,
  }
}

async function servingProcess(place: Place): Promise<Sample> {
  const { pid } = JSON.parse(await ask(place, 'GET', 'mount')) as { readonly pid: number }
  // SQLite keeps the descriptors of closed connections for the next ones (pUnused of os_unix.c): as many as were ever open at once. A
  // connection that is not closed shows by its WAL.
  const descriptors = descriptorsOf(pid).filter((target) => !target.endsWith('.litevol'))
  return { 'descriptors of the FUSE process': descriptors.length, 'memory of the FUSE process, MiB': memoryOf(pid) }
}

function runFolderOf({ service, id }: Place): string {
  return join(`${service.roots.mountRoot}-run`, id)
}

function keeperOf(place: Place): number {
  return Number(readFileSync(join(runFolderOf(place), 'keeper'), 'utf8'))
}

/**
 * Whether the keeper waits for its processes: `wait "$server" 2>/dev/null`, for which the shell keeps its standard error in one descriptor
 * more. A sample of ten, taken while it starts the process that stands by, made the eleven of all others look like a leak.
 */
function isWaiting(keeper: number): boolean {
  return readlinkSync(`/proc/${String(keeper)}/fd/2`) === '/dev/null'
}

/** The keeper and what it shares with its FUSE processes. */
function runFolder(place: Place): Sample {
  const folder = runFolderOf(place)
  const keeper = keeperOf(place)
  const sizes = readdirSync(folder).map((name) => [`bytes of ${name}`, statSync(join(folder, name)).size] as const)
  return {
    'descriptors of the keeper': descriptorsOf(keeper).length,
    'memory of the keeper, MiB': memoryOf(keeper),
    ...Object.fromEntries(sizes.filter(([name]) => name !== 'bytes of handover')), // the count of restarts is in it
  }
}

/** The loops with how often each is run as a whole. */
const loops = [
  ['mount, work, unmount', loopMounts, 500],
  ['export whole, cut, resumed', loopExports, 200],
  ['restart', loopRestarts, 100],
] as const

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const share = Number(process.argv[2] ?? 1)
  for (const [name, run, rounds] of loops) {
    const report = await run(Math.round(rounds * share))
    console.log(`${name}, ${String(report.rounds)} times: first and last third`)
    console.table(
      Object.fromEntries(Object.keys(report.last).map((what) => [what, { first: report.first[what], last: report.last[what] }])),
    )
    assertFlat(report)
  }
}
