/**
 * Promises 1 and 2 when the manager is killed at random moments, alone, with a FUSE process, or with all there is, and started again.
 * Keeps: as long as its keeper lives a mount goes on and its consumers see no error; what died is cleaned away, and mounted again
 *   where it is to persist; soon after each start the records say what is; what was acknowledged is there.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { listMounts } from '../../../src/fuse/index.ts'
import { assertClean, seededNumbers } from '../../support.ts'
import { Service, withRoots, type Roots } from '../support.ts'
import { Writer, startInserter, sum, type Consumer, type Outcome } from './consumers.ts'
import { describeTimes, type KillReport } from './report.ts'

/** The longest that consumers work before a kill, and that things stay dead, in ms. */
const longestWorkMs = 1200
const longestDeathMs = 400

/** How long the records may take to say what is, in ms. */
const recordsLimitMs = 30_000

/** Who dies: the manager; the FUSE processes with it, whose keepers replace them; keepers and all. */
const victims = ['manager', 'processes', 'all'] as const
type Victims = (typeof victims)[number]

/** Kills the manager of a new data root `kills` times, at moments that `seed` decides. */
export async function killManagers(kills: number, seed: number): Promise<KillReport> {
  const report: { done?: KillReport } = {}
  await withRoots(async (roots, folder) => {
    const run = new ManagerRun(roots, folder, seed)
    try {
      await run.begin()
      // The first three are one of each.
      for (let count = 0; count < kills; count++) await run.kill(victims[count] ?? run.pick(victims))
      report.done = { kills, ...(await run.finish()) }
    } finally {
      run.abandon()
    }
  })
  if (report.done === undefined) throw new Error('the run did not end')
  return report.done
}

/** A volume of the run: consumers work on it as long as it is mounted. */
interface Place {
  readonly id: string
  readonly mountpoint: string
  readonly file: string
  /** Mounted again by the manager itself. */
  readonly persists: boolean
  isMounted: boolean
  /** How often its FUSE process was replaced since the mount. */
  restarts: number
  consumers: Consumer[]
  writer: Writer | undefined
}

class ManagerRun {
  readonly #roots: Roots
  readonly #folder: string
  readonly #next: () => number
  #seed: number
  #service: Service | undefined
  #places: readonly Place[] = []
  readonly #outcomes: Outcome[] = []
  readonly #agreementsMs: number[] = []
  readonly #deaths: Record<Victims, number> = { manager: 0, processes: 0, all: 0 }

  constructor(roots: Roots, folder: string, seed: number) {
    this.#roots = roots
    this.#folder = folder
    this.#next = seededNumbers(seed)
    this.#seed = seed
  }

  /** One of them, as the seed decides; there must be one. */
  pick<T>(choices: readonly T[]): T {
    return choices[this.#next() % choices.length] as T
  }

  /** A volume that persists, one that does not, one that is never mounted; consumers on the first two. */
  async begin(): Promise<void> {
    const service = await this.#start()
    const kept = await this.#makePlace(service, 'kept', true)
    const passing = await this.#makePlace(service, 'passing', false)
    const idle = await this.#makePlace(service, 'idle', false)
    this.#places = [kept, passing, idle]
    for (const place of [kept, passing]) {
      await service.mount(place.id, place.persists ? { persist: true } : {})
      this.#startConsumers(place)
    }
  }

  async kill(who: Victims): Promise<void> {
    this.#deaths[who]++
    await this.#sleep(longestWorkMs)
    for (const { consumers } of this.#places) for (const consumer of consumers) await consumer.assertRuns()
    await this.#killNow(who)
    if (who === 'all') await this.#collectDead()
    await this.#sleep(longestDeathMs)
    const service = await this.#start()
    await this.#assertRecords(service)
    if (who === 'all') await this.#reviveConsumers(service)
  }

  async finish(): Promise<Omit<KillReport, 'kills'>> {
    for (const place of this.#places) {
      const outcomes = await Promise.all(place.consumers.map((consumer) => consumer.stop()))
      for (const { end } of outcomes) assert.equal(end, null)
      this.#outcomes.push(...outcomes)
      place.writer?.assertAsAcknowledged()
      place.consumers = []
    }
    await this.#service?.stop()
    const deaths = victims.map((who) => `${who} ${String(this.#deaths[who])}`).join(', ')
    return { ...sum(this.#outcomes), more: [`killed: ${deaths}`, describeTimes('records agree after', this.#agreementsMs)] }
  }

  /** Leaves nothing behind, whatever has happened. */
  abandon(): void {
    for (const { consumers } of this.#places) for (const consumer of consumers) consumer.kill()
    const child = this.#service?.child
    if (child === undefined || (child.exitCode ?? child.signalCode) !== null) return
    child.kill('SIGKILL')
    for (const place of this.#places) if (place.isMounted) this.#killKeeper(place)
  }

  async #start(): Promise<Service> {
    const environment = { LITEVOL_RUN_DIR: this.#runRoot, LITEVOL_STANDBY: this.pick(['on', 'off']), LITEVOL_LOG_LEVEL: 'error' }
    this.#service = await Service.start(this.#roots, environment)
    return this.#service
  }

  get #runRoot(): string {
    return join(this.#folder, 'run')
  }

  #sleep(longestMs: number): Promise<void> {
    return sleep(this.#next() % longestMs)
  }

  async #makePlace(service: Service, name: string, persists: boolean): Promise<Place> {
    const id = await service.create(name)
    const { dataRoot, mountRoot } = this.#roots
    const file = join(dataRoot, 'volumes', `${id}.litevol`)
    return { id, mountpoint: join(mountRoot, id), file, persists, isMounted: false, restarts: 0, consumers: [], writer: undefined }
  }

  #startConsumers(place: Place): void {
    const folder = join(place.mountpoint, 'written')
    mkdirSync(folder, { recursive: true })
    place.writer = new Writer(folder, join(this.#folder, `${place.id}.manifest`), this.#seed++, 'torn')
    const inserter = startInserter(place.mountpoint, join(this.#folder, `${place.id}.log`), 'torn')
    place.consumers = [place.writer, inserter]
    place.isMounted = true
    place.restarts = 0
  }

  async #killNow(who: Victims): Promise<void> {
    const mounted = this.#places.filter(({ isMounted }) => isMounted)
    const pids = await Promise.all(
      mounted.map(async ({ id }) => Number((await this.#service?.call('GET', `/volumes/${id}/mount`))?.body['pid'])),
    )
    const deeds: (() => unknown)[] = [() => this.#service?.child.kill('SIGKILL')]
    if (who === 'processes') for (const [at, pid] of pids.entries()) deeds.push(() => this.#killProcess(mounted[at], pid))
    if (who === 'all') for (const place of mounted) deeds.push(() => this.#killKeeper(place))
    const first = this.#next() % deeds.length
    for (const deed of [...deeds.slice(first), ...deeds.slice(0, first)]) {
      deed()
      if (this.#next() % 2 === 0) await this.#sleep(50)
    }
    const child = this.#service?.child
    if (child !== undefined && (child.exitCode ?? child.signalCode) === null) await once(child, 'exit')
  }

  #killProcess(place: Place | undefined, pid: number): void {
    process.kill(pid, 'SIGKILL')
    if (place !== undefined) place.restarts++
  }

  /** The keeper leads its process group. */
  #killKeeper(place: Place): void {
    const pid = Number(readFileSync(join(this.#runRoot, place.id, 'keeper'), 'utf8'))
    process.kill(-pid, 'SIGKILL')
  }

  /** The mounts are dead: their consumers must notice, and the files be whole. */
  async #collectDead(): Promise<void> {
    for (const place of this.#places.filter(({ isMounted }) => isMounted)) {
      const outcomes = await Promise.all(place.consumers.map((consumer) => consumer.ended()))
      for (const { end } of outcomes) assert.notEqual(end, null)
      this.#outcomes.push(...outcomes)
      assertClean(place.file)
      place.isMounted = place.persists
      place.restarts = 0
    }
  }

  async #reviveConsumers(service: Service): Promise<void> {
    for (const place of this.#places) {
      if (place.writer === undefined) continue
      if (!place.persists) await service.mount(place.id)
      place.writer.assertAsAcknowledged()
      this.#startConsumers(place)
    }
  }

  /** Waits until what the manager says of each volume is what is. */
  async #assertRecords(service: Service): Promise<void> {
    const begin = performance.now()
    for (;;) {
      const wrong = (await Promise.all(this.#places.map((place) => findDifference(service, place)))).filter((text) => text !== undefined)
      const ms = performance.now() - begin
      if (wrong.length === 0) {
        this.#agreementsMs.push(ms)
        return
      }
      assert.ok(ms < recordsLimitMs, `${wrong.join('\n')}\n${service.output.join('\n')}`)
      await sleep(20)
    }
  }
}

/** What the manager says of a volume that is not so; undefined when all is. */
async function findDifference(service: Service, { id, mountpoint, isMounted, restarts }: Place): Promise<string | undefined> {
  const { body } = await service.call('GET', `/volumes/${id}/mount`)
  const { body: record } = await service.call('GET', `/volumes/${id}`)
  const mounts = listMounts().filter((mount) => mount.mountpoint === mountpoint).length
  const said = {
    state: record['state'],
    mounted: body['mounted'],
    restarts: body['restarts'],
    mounts,
    isServed: isServing(body['pid'], mountpoint),
  }
  const is = isMounted
    ? { state: 'mounted', mounted: true, restarts, mounts: 1, isServed: true }
    : { state: 'unmounted', mounted: false, restarts: null, mounts: 0, isServed: false }
  try {
    assert.deepEqual(said, is)
    return undefined
  } catch {
    return `${id}: ${JSON.stringify(said)} instead of ${JSON.stringify(is)}`
  }
}

/** Whether that process serves the mountpoint, as its title says. */
function isServing(pid: unknown, mountpoint: string): boolean {
  if (typeof pid !== 'number') return false
  try {
    const title = readFileSync(`/proc/${String(pid)}/cmdline`, 'utf8')
    return title.startsWith('litevol: serving') && title.includes(mountpoint)
  } catch {
    return false
  }
}
