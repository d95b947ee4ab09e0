/**
 * The race test: many clients create, mount, write, unmount, delete, export and restart the same few volumes at once.
 * Keeps: each reply is one that the call may give, no 5xx but 503 (507 on a full disk); afterwards nothing is left that belongs to
 *   nobody, store, files, mounts and processes say the same, and each volume is sound. As a program, `node test/system/races.ts SECONDS [SEED]`.
 */
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { shell } from '../mount/support.ts'
import { assertClean, seededNumbers, until } from '../support.ts'
import { descriptorsOf, filesBelow, mountsBelow, processesBelow } from './belongings.ts'
import { RaceClient, type Tally } from './races-client.ts'
import { Service, litevol, withRoots } from './support.ts'

const writerProgram = fileURLToPath(new URL('races-writer.py', import.meta.url))

/** 64 clients: of the service, and of what is mounted. */
const httpClients = 56
const writers = 8

/** How long nothing may have changed to count as rest, in ms. */
const restMs = 200

/** How long all may take to come to rest, in ms: exports have a lease of a second. */
const restLimitMs = 60_000

interface VolumeState {
  readonly id: string
  readonly mounted: boolean
  readonly state: string
}

export interface RaceReport {
  /** How often each action got each answer: `mount 409`. */
  readonly answers: Readonly<Record<string, number>>
  readonly writes: number
}

/** Races for so long; fails when an answer is wrong or anything is left. */
export async function race(seconds: number, seed: number): Promise<RaceReport> {
  let report: RaceReport | undefined
  await withRoots(async (roots, folder) => {
    const temporary = join(folder, 'tmp')
    mkdirSync(temporary)
    const service = await Service.start(roots, { LITEVOL_EXPORT_LEASE: '1', TMPDIR: temporary })
    try {
      await warmUp(service)
      const before = await belongingsAtRest(service, folder)
      report = await raceFor(service, seconds, seed)
      await assertAgreed(service, folder)
      await assertSound(service)
      await deleteAll(service)
      // It may have had a connection more before, which it had not noticed was closed.
      await until('there is no more than before', () => surplus(belongingsOf(service, folder), before).length === 0, restLimitMs).catch(() => undefined) // prettier-ignore
      assert.deepEqual(surplus(belongingsOf(service, folder), before), [])
      await service.stop()
    } catch (error) {
      throw new Error(`the race failed; the log of the service:\n${service.output.slice(-20).join('\n')}`, { cause: error })
    } finally {
      if (service.child.exitCode === null) service.child.kill('SIGKILL')
    }
  })
  if (report === undefined) throw new Error('the race did not end')
  return report
}

/** Everything of the service but the journal of its records, which says what was done. */
function belongingsOf({ child, roots }: Service, folder: string): string[] {
  const { pid = 0 } = child
  const folders = [roots.dataRoot, roots.mountRoot, `${roots.mountRoot}-run`, join(folder, 'tmp')]
  return [
    ...descriptorsOf(pid).map((target) => `descriptor of ${target}`),
    ...[...processesBelow(folder).values()].map((command) => `process ${command}`),
    ...mountsBelow(folder).map((mountpoint) => `mount ${mountpoint}`),
    ...folders.flatMap((one) => filesBelow(one).map((path) => `file ${join(one, path)}`)),
  ]
}

/** What is in `now` more often than in `before`. */
function surplus(now: readonly string[], before: readonly string[]): string[] {
  const rest = [...before]
  return now.filter((one) => {
    const at = rest.indexOf(one)
    if (at >= 0) rest.splice(at, 1)
    return at < 0
  })
}

/** What it has once nothing changes any more: a closed connection is noticed a moment later. */
async function belongingsAtRest(service: Service, folder: string) {
  let last = belongingsOf(service, folder)
  await until('nothing changes any more', async () => {
    await sleep(restMs)
    const before = last
    last = belongingsOf(service, folder)
    return isDeepStrictEqual(last, before)
  })
  return last
}

/** What is loaded or opened once and for all is there afterwards. */
async function warmUp(service: Service): Promise<void> {
  await withClient(service, async (client) => {
    const created = await client.call('POST', '/volumes', { name: 'warm' })
    const { id } = JSON.parse(created.body) as VolumeState
    const calls = [['POST', 'mount'], ['POST', 'mount/restart'], ['GET', 'export'], ['DELETE', 'mount']] as const // prettier-ignore
    for (const [method, path] of calls) {
      const { status, body } = await client.call(method, `/volumes/${id}/${path}`)
      assert.ok(status < 300, body)
    }
  })
  await deleteAll(service)
}

async function raceFor(service: Service, seconds: number, seed: number): Promise<RaceReport> {
  const next = seededNumbers(seed)
  const consumers = Array.from({ length: writers }, () => new Consumer([service.roots.mountRoot, String(next())]))
  const tally: Tally = new Map()
  const deadline = Date.now() + seconds * 1000
  const clients = Array.from({ length: httpClients }, () => new RaceClient(service.url, seededNumbers(next()), tally))
  try {
    await Promise.all(clients.map((client) => client.runUntil(deadline)))
    const counts = await Promise.all(consumers.map((consumer) => consumer.stop()))
    return { answers: Object.fromEntries([...tally].sort()), writes: counts.reduce((sum, count) => sum + count, 0) }
  } finally {
    for (const consumer of consumers) consumer.kill()
  }
}

/** Records, files, mounts and processes say the same, and the store is sound. */
async function assertAgreed(service: Service, folder: string): Promise<void> {
  const { dataRoot, mountRoot } = service.roots
  assert.match(await shell('"$1" store check --data-root "$2"', litevol, dataRoot), /: sound, /)
  const volumes = await withClient(service, list)
  const idsOf = (list: readonly string[]): string[] => [...new Set(list.map((name) => name.replace(/\.litevol(-wal|-shm)?$/, '')))].sort() // prettier-ignore
  assert.deepEqual(volumes.map(({ id }) => id).sort(), idsOf(service.volumeFiles()), 'a record, a file') // prettier-ignore
  const mounted = volumes.filter((volume) => volume.mounted).map(({ id }) => id).sort() // prettier-ignore
  assert.deepEqual(mounted.map((id) => join(mountRoot, id)), mountsBelow(mountRoot), 'mounted is what mountinfo says') // prettier-ignore
  assert.deepEqual(readdirSync(mountRoot).sort(), mounted, 'a mountpoint is there as long as it is mounted')
  assert.deepEqual(readdirSync(`${mountRoot}-run`).sort(), mounted, 'a run folder as well')
  assert.deepEqual(volumes.filter(({ state }) => state !== 'mounted' && state !== 'unmounted'), [], 'nothing has failed') // prettier-ignore
  const keepers = [...processesBelow(folder).values()].filter((command) => command.includes('keeper.sh'))
  assert.equal(keepers.length, mounted.length, 'one keeper each')
}

/** The volume files are sound, each byte: two processes that serve one volume at once leave another. */
async function assertSound(service: Service): Promise<void> {
  await withClient(service, async (client) => {
    for (const { id, mounted } of await list(client)) {
      if (mounted) assert.equal((await client.call('DELETE', `/volumes/${id}/mount?force=true`)).status, 204)
      assertClean(join(service.roots.dataRoot, 'volumes', `${id}.litevol`))
    }
  })
}

async function deleteAll(service: Service): Promise<void> {
  await withClient(service, async (client) => {
    for (const { id } of await list(client)) {
      // A download that a client gave up may not be noticed yet, hence by force.
      assert.equal((await client.call('DELETE', `/volumes/${id}?force=true`)).status, 204)
    }
  })
}

async function list(client: RaceClient): Promise<readonly VolumeState[]> {
  return JSON.parse((await client.call('GET', '/volumes')).body) as VolumeState[]
}

/** A client whose connections are closed afterwards, unlike those of fetch. */
async function withClient<T>(service: Service, work: (client: RaceClient) => Promise<T>): Promise<T> {
  const client = new RaceClient(service.url, () => 0, new Map())
  try {
    return await work(client)
  } finally {
    client.close()
  }
}

/** A program that writes into what is mounted. */
class Consumer {
  readonly #child: ChildProcess
  readonly #output: Promise<string>
  readonly #complaints: Promise<string>
  readonly #end: Promise<unknown[]>

  constructor(args: readonly string[]) {
    const child = spawn('python3', [writerProgram, ...args], { stdio: ['pipe', 'pipe', 'pipe'] })
    this.#child = child
    this.#output = text(child.stdout)
    this.#complaints = text(child.stderr)
    this.#end = once(child, 'exit')
    child.stdin.on('error', () => undefined) // it has ended: `stop` says how
  }

  /** Has it end, and asserts that it does so in order; returns how often it wrote. */
  async stop(): Promise<number> {
    this.#child.stdin?.end()
    await this.#end
    assert.equal(this.#child.exitCode ?? this.#child.signalCode, 0, await this.#complaints)
    return Number(await this.#output)
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [seconds = 60, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number)
  console.log(`seed ${String(seed)}`)
  const { answers, writes } = await race(seconds, seed)
  console.log({ ...answers, writes })
}
