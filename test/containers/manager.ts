/**
 * litevol's own container in a test, spoken to through its published port, and consumers beside it.
 * Keeps: a stop must end with 0 within 10 s; nothing that touches a volume runs in the test's own process, and all of it has a time limit.
 * Leaves: removing containers to the engine.
 */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { listMounts } from '../../src/fuse/mount.ts'
import { until } from '../support.ts'
import type { ContainerState, Engine, Outcome } from './engine.ts'
import { consumerImage, litevolImage } from './images.ts'

/** Where volumes appear on the host of the tests: what README and compose.yaml name. */
export const hostMountRoot = '/mnt/litevol'
/** The promise of the service, in ms. */
export const stopLimitMs = 10_000
/** How long a container may take to listen, or anything in it to happen, in ms. */
export const readyLimitMs = 30_000

const tokenInside = '/run/secrets/litevol-token'
const address = 'http://127.0.0.1:8080'

/** What a container needs so that it may mount, as README says. `--privileged` asks for more than a machine of the tests may have. */
export const leastRights = ['--cap-add', 'SYS_ADMIN', '--device', '/dev/fuse', '--security-opt', 'apparmor=unconfined'] as const

/** How to run litevol's container. */
export interface ManagerChoice {
  readonly rights?: readonly string[]
  /** The bind of the mount root; none when empty. */
  readonly bind?: string
  /** More flags of docker run. */
  readonly flags?: readonly string[]
}

/** A reply of the API. */
export interface Reply {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
}

/** The flags of `docker run` for litevol, but for those that say how it is kept running. */
export function managerFlags(engine: Engine, { rights: given = leastRights, bind, flags = [] }: ManagerChoice = {}): string[] {
  const token = join(engine.folder, 'token')
  writeFileSync(token, 'a-token-of-the-tests\n', { mode: 0o600 })
  mkdirSync(hostMountRoot, { recursive: true })
  const mounts = bind ?? `${hostMountRoot}:/mnt:rshared`
  return [
    ...['-p', '127.0.0.1:8080:8080', '-v', 'litevol:/var/lib/litevol'],
    ...(mounts === '' ? [] : ['-v', mounts]),
    ...['-v', `${token}:${tokenInside}:ro`, '-e', `LITEVOL_TOKEN_FILE=${tokenInside}`],
    ...['-e', 'LITEVOL_MOUNT_TIMEOUT=25'], // less than what a call may take here
    ...given,
    ...flags,
  ]
}

/** A running container of litevol. */
export class Manager {
  readonly engine: Engine
  readonly name = 'litevol'

  private constructor(engine: Engine) {
    this.engine = engine
  }

  /** Runs it; returns when it answers. */
  static async start(engine: Engine, choice: ManagerChoice = {}): Promise<Manager> {
    await engine.docker(['run', '-d', '--name', 'litevol', ...managerFlags(engine, choice), litevolImage])
    const manager = new Manager(engine)
    await manager.ready()
    return manager
  }

  /** Waits until it answers. */
  async ready(): Promise<void> {
    await until(
      'litevol answers',
      async () => {
        const { Running } = await this.state()
        assert.ok(Running, (await this.engine.logs(this.name)).join('\n'))
        return (await fetch(`${address}/health`).then(({ status }) => status, () => 0)) === 200 // prettier-ignore
      },
      readyLimitMs,
    )
  }

  state(): Promise<ContainerState> {
    return this.engine.inspect(this.name)
  }

  /** Stops it with SIGTERM, as Docker does; it must end in time and with 0. */
  async stop(): Promise<void> {
    const start = performance.now()
    await this.engine.docker(['stop', '-t', String(stopLimitMs / 1000), this.name])
    const { ExitCode } = await this.state()
    assert.equal(
      ExitCode,
      0,
      `after ${((performance.now() - start) / 1000).toFixed(1)} s:\n${(await this.engine.logs(this.name)).join('\n')}`,
    )
  }

  /** Starts it again after a stop or a kill. */
  async again(): Promise<void> {
    await this.engine.docker(['start', this.name])
    await this.ready()
  }

  async remove(): Promise<void> {
    await this.engine.docker(['rm', '-f', this.name])
  }

  /** Calls the API with the token. */
  async call(method: string, path: string, body?: unknown): Promise<Reply> {
    const authorization = `Bearer ${readFileSync(join(this.engine.folder, 'token'), 'utf8').trim()}`
    const json = body === undefined ? {} : { body: JSON.stringify(body) }
    const headers = { authorization, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }
    const response = await fetch(`${address}${path}`, { method, headers, ...json, signal: AbortSignal.timeout(readyLimitMs) })
    const text = await response.text()
    return { status: response.status, body: (text === '' ? {} : JSON.parse(text)) as Reply['body'] }
  }

  /** Creates a volume and mounts it; returns its id. */
  async provide(name: string, wish: Readonly<Record<string, unknown>> = {}): Promise<string> {
    const { status, body } = await this.call('POST', '/volumes', { name })
    assert.equal(status, 201, JSON.stringify(body))
    const id = String(body['id'])
    await this.mount(id, wish)
    return id
  }

  /** Mounts a volume; returns what the API says is its place on the host. */
  async mount(id: string, wish: Readonly<Record<string, unknown>> = {}): Promise<string> {
    const { status, body } = await this.call('POST', `/volumes/${id}/mount`, wish)
    assert.equal(status, 200, JSON.stringify(body))
    return String(body['host_path'])
  }

  /** Runs a script in a new consumer that has `bind`; returns what it printed. Rejects when it fails. */
  consume(bind: string, script: string): Promise<string> {
    return this.engine.docker(['run', '--rm', '--network', 'none', '-v', bind, consumerImage, 'sh', '-c', script])
  }

  /** Starts a consumer that stays, with `bind`. */
  async keepConsumer(name: string, bind: string): Promise<Consumer> {
    await this.engine.docker(['run', '-d', '--init', '--network', 'none', '--name', name, '-v', bind, consumerImage, 'sleep', '3600'])
    return new Consumer(this.engine, name)
  }

  /** Runs a script in litevol's container. */
  inside(script: string): Promise<string> {
    return this.engine.docker(['exec', this.name, 'sh', '-c', script])
  }
}

/** A container that uses volumes. */
export class Consumer {
  readonly #engine: Engine
  readonly name: string

  constructor(engine: Engine, name: string) {
    this.#engine = engine
    this.name = name
  }

  /** Runs a script in it; a failure is an outcome too. */
  try(script: string): Promise<Outcome> {
    return this.#engine.tryDocker(['exec', this.name, 'timeout', '20', 'sh', '-c', script])
  }

  /** Runs a script in it; returns what it printed. Rejects when it fails. */
  async run(script: string): Promise<string> {
    return this.#engine.docker(['exec', this.name, 'timeout', '20', 'sh', '-c', script])
  }
}

/** The mounts of volumes that the host has now. */
export function hostMounts(): string[] {
  return listMounts()
    .filter(({ fstype, mountpoint }) => fstype === 'fuse.litevol' && mountpoint.startsWith(`${hostMountRoot}/`))
    .map(({ mountpoint }) => mountpoint)
}

/** Asserts that a stopped or removed manager has left nothing at the host. */
export function assertNothingMounted(): void {
  assert.deepEqual(hostMounts(), [])
}
