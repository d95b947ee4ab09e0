/**
 * Rounds of power loss: a service whose data root lies on a disk that loses power at a random moment, applications on a volume of
 * it and a client of its API; what they were promised is compared with what the next service finds on what is left.
 * Keeps: each round goes on with what the cut before has left, so cuts also hit recovery; a seed replays the orders, not the timing.
 * Leaves: the disk to disk.ts, the applications to writer.ts.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { checkVolume, settleVolumeFile } from '../../src/engine/index.ts'
import { shell } from '../mount/support.ts'
import { seededNumbers } from '../support.ts'
import { Service } from '../system/support.ts'
import { TestDisk, destroyEverythingIn } from './disk.ts'

const writer = fileURLToPath(new URL('writer.ts', import.meta.url))
const verifier = fileURLToPath(new URL('verify.ts', import.meta.url))

/** Where the data root lies on the disk. */
const dataRoot = 'lib/litevol'

/** How long the applications may work before the power is cut if the ordered number of requests has not come, in ms. */
const workLimitMs = 4000

/** How many rounds back the applications' files are kept and compared. */
const keptRounds = 3

/** What a volume that was created or deleted must be. */
type Promised = 'there' | 'gone' | 'unknown'

/** What the rounds have seen. */
export interface Tally {
  rounds: number
  /** Rounds whose cut came while the service started. */
  cutsAtStart: number
  /** Facts of applications that were compared and held. */
  facts: number
  /** Volumes whose creation or deletion had been answered and held. */
  volumes: number
  /** Volume files whose deep check was clean. */
  checks: number
  changes: number
  syncs: number
}

export class PowerRounds {
  readonly tally: Tally = { rounds: 0, cutsAtStart: 0, facts: 0, volumes: 0, checks: 0, changes: 0, syncs: 0 }
  readonly #folder: string
  readonly #seed: number
  readonly #next: () => number
  readonly #volumes = new Map<string, Promised>()
  /** What the last cut has left. */
  #left: string | undefined
  /** The volume that the applications work on. */
  #main: string | undefined

  constructor(folder: string, seed: number) {
    this.#folder = folder
    this.#seed = seed
    this.#next = seededNumbers(seed)
    mkdirSync(join(folder, 'mnt'))
    mkdirSync(join(folder, 'logs'))
  }

  /** Starts, compares with what was promised, works until the power is cut, and checks what is left. */
  async round(): Promise<void> {
    const number = this.tally.rounds++
    const place = join(this.#folder, `round${number}`)
    const left = join(this.#folder, `left${number}`)
    const disk = await TestDisk.start(place, this.#left, this.#next())
    try {
      const isEarly = number > 0 && this.#below(4) === 0
      if (isEarly) await disk.cut({ folder: left, seed: this.#next(), after: this.#below(120) })
      await this.#live(disk, left, isEarly)
      const { changes, syncs } = await disk.status()
      this.tally.changes += changes
      this.tally.syncs += syncs
    } finally {
      destroyEverythingIn(this.#folder)
      await disk.destroy()
    }
    rmSync(place, { recursive: true })
    rmSync(join(this.#folder, 'run'), { recursive: true, force: true }) // tmpfs: it goes with the power
    if (this.#left !== undefined) rmSync(this.#left, { recursive: true })
    this.#left = left
    await this.#checkLeft(left)
  }

  /** A service on what is left, on a plain disk: everything promised is there, and it ends in order. */
  async finish(): Promise<void> {
    if (this.#left === undefined) return
    const service = await this.#start(this.#left)
    try {
      await this.#compare(service)
      await service.stop()
    } finally {
      if (service.child.exitCode === null) service.child.kill('SIGKILL')
    }
    await this.#checkLeft(this.#left)
  }

  async #live(disk: TestDisk, left: string, isEarly: boolean): Promise<void> {
    let service: Service | undefined
    try {
      service = await this.#start(disk.mountpoint)
      const mountpoint = await this.#compare(service)
      await this.#work(service, disk, mountpoint, left, isEarly)
    } catch (error) {
      if (!(await disk.status()).isCut || !isEarly) throw error // a service that starts on a dying disk may say so and end
      this.tally.cutsAtStart++
    } finally {
      if (service?.child.exitCode === null) service.child.kill('SIGKILL')
    }
  }

  /** The data root lies two folders below the disk's root, which the first service makes. */
  #start(disk: string): Promise<Service> {
    return Service.start(
      { dataRoot: join(disk, dataRoot), mountRoot: join(this.#folder, 'mnt') },
      { LITEVOL_RUN_DIR: join(this.#folder, 'run') },
    )
  }

  /** Mounts the main volume, made in the first round, and compares everything with what was promised. */
  async #compare(service: Service): Promise<string> {
    const { body } = await service.call('GET', '/volumes')
    const ids = new Set((body as unknown as readonly { id: string }[]).map(({ id }) => id))
    for (const [id, promised] of this.#volumes) {
      if (promised !== 'unknown') assert.equal(ids.has(id), promised === 'there', `volume ${id} was to be ${promised}`)
      if (!ids.has(id)) this.#volumes.delete(id)
      if (promised !== 'unknown') this.tally.volumes++
    }
    this.#main ??= await service.create('main')
    const mountpoint = await service.mount(this.#main)
    const held = await shell('node "$@"', verifier, mountpoint, ...this.#logs())
    this.tally.facts += Number(held)
    return mountpoint
  }

  #logs(): string[] {
    return readdirSync(join(this.#folder, 'logs')).map((name) => join(this.#folder, 'logs', name))
  }

  /** Lets applications and a client work until the power is cut. */
  async #work(service: Service, disk: TestDisk, mountpoint: string, left: string, isEarly: boolean): Promise<void> {
    const number = this.tally.rounds
    for (const log of this.#logs()) {
      const [round = ''] = log.split('/').at(-1)?.split('-') ?? []
      if (Number(round) > number - keptRounds) continue
      rmSync(log)
      await shell('rm -rf "$1"', join(mountpoint, log.split('/').at(-1) ?? ''))
    }
    const writers = ['a', 'b'].map((name) => this.#startWriter(mountpoint, `${number}-${name}`))
    const client = this.#callUntilCut(service, disk)
    client.catch(() => undefined) // awaited below
    // From some requests to some ten thousand, each magnitude as likely.
    if (!isEarly) await disk.cut({ folder: left, seed: this.#next(), after: Math.floor(10 ** (1.5 + (this.#below(1000) / 1000) * 3)) })
    const deadline = Date.now() + workLimitMs
    while (!(await disk.status()).isCut) {
      if (Date.now() > deadline) await disk.cut({ folder: left, seed: this.#next(), after: 0 })
      else await sleep(50)
    }
    for (const ended of writers) assert.equal(await ended, 0, 'an application met another error than that of the cut')
    await client
  }

  /** Resolves with the exit code of the application. */
  async #startWriter(mountpoint: string, label: string): Promise<number | null> {
    const args = [writer, join(mountpoint, label), join(this.#folder, 'logs', label), String(this.#next())]
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
    const [code] = (await once(child, 'exit')) as [number | null]
    return code
  }

  /** Creates and deletes volumes as fast as they are answered. */
  async #callUntilCut(service: Service, disk: TestDisk): Promise<void> {
    for (let made = 0; !(await disk.status()).isCut; made++) {
      const created = await service.call('POST', '/volumes', { name: `v${this.tally.rounds}-${made}` })
      if (created.status === 201) this.#volumes.set(String(created.body['id']), 'there')
      const [oldest] = this.#volumes.keys()
      if (oldest === undefined || this.#volumes.size < 4) continue
      this.#volumes.set(oldest, 'unknown')
      const deleted = await service.call('DELETE', `/volumes/${oldest}`)
      if (deleted.status === 204) this.#volumes.set(oldest, 'gone')
      else if (deleted.status === 404) this.#volumes.delete(oldest)
    }
  }

  /** Every volume file of a copy of what is left is whole. */
  async #checkLeft(left: string): Promise<void> {
    const copy = join(this.#folder, 'copy')
    cpSync(left, copy, { recursive: true })
    const volumes = join(copy, dataRoot, 'volumes')
    for (const name of existsSync(volumes) ? readdirSync(volumes) : []) {
      if (!name.endsWith('.litevol')) continue // one that was being made or deleted
      await settleVolumeFile(join(volumes, name), { ownerTimeoutMs: 0 })
      assert.deepEqual(checkVolume(join(volumes, name), { deep: true }), [], `seed ${this.#seed}, round ${this.tally.rounds}: ${name}`)
      this.tally.checks++
    }
    rmSync(copy, { recursive: true })
  }

  #below(limit: number): number {
    return this.#next() % limit
  }
}
