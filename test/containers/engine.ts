/**
 * A Docker Engine of a test: dockerd started by hand, `docker` as a function, and everything it made removed again.
 * Keeps: every call ends at a time limit; after `stop` there is no container, network, volume, mount or process of it. Images stay,
 *   in the cache folder, with the builder's cache.
 * Leaves: which images there are to images.ts; paths and ports of a host of its own, and the end of an engine that cannot be
 *   stopped, to scripts/test-containers.sh.
 */
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { execa } from 'execa'
import { listMounts } from '../../src/fuse/mount.ts'
import { until } from '../support.ts'

/** How long a call of docker may take, in ms, when it says nothing else. */
export const callLimitMs = 60_000
/** What timeout(1) ends with when it had to kill: itself too. */
const killedCode = 137
/** How long dockerd may take to answer after its start, in ms: 12 s were seen on a busy machine. */
const startLimitMs = 60_000
/** How long dockerd may take to stop, in ms, before it is killed. */
const stopLimitMs = 20_000

/** How a call of docker ended. */
export interface Outcome {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

/** How to call a program. */
export interface CallOptions {
  readonly cwd?: string
  readonly input?: string | Uint8Array
  readonly env?: Readonly<Record<string, string>>
  readonly timeoutMs?: number
}

/** How to start an engine. */
export interface EngineOptions {
  /** `own`: Docker's usual networks, in the network namespace of the tests; `none`: no network but the host's. Default `own`. */
  readonly network?: 'own' | 'none'
  /** More flags of dockerd. */
  readonly flags?: readonly string[]
}

/** What `docker inspect` says of a container, as far as tests look at it. */
export interface ContainerState {
  readonly Status: string
  readonly Running: boolean
  readonly ExitCode: number
  readonly Health?: { readonly Status: string; readonly Log: readonly { readonly ExitCode: number; readonly Output: string }[] }
}

/** dockerd, and its end. */
interface Daemon {
  readonly child: ChildProcess
  readonly ended: Promise<unknown>
}

/** A running engine. */
export class Engine {
  /** The folder of its socket, its pid and its log. */
  readonly folder: string
  readonly #options: EngineOptions
  #daemon: Daemon | undefined

  private constructor(folder: string, options: EngineOptions) {
    this.folder = folder
    this.#options = options
  }

  /** Starts one and removes what an engine that was killed left in its data. Returns when it answers. */
  static async start(options: EngineOptions = {}): Promise<Engine> {
    const engine = new Engine(mkdtempSync(join(runFolder(), 'engine-')), options)
    mkdirSync(join(engine.folder, 'config'))
    writeFileSync(join(engine.folder, 'daemon.json'), '{}')
    // Volumes of a driver that is gone: dockerd would ask for each of them for 15 s.
    for (const name of ['volumes', 'plugins']) rmSync(join(cacheFolder(), 'docker', name), { recursive: true, force: true })
    await engine.startDaemon()
    await engine.#clear()
    return engine
  }

  /** What tells clients where it listens; no setting or login of the machine's user is looked at. */
  get environment(): Readonly<Record<string, string>> {
    return { DOCKER_HOST: `unix://${this.#socket}`, DOCKER_CONFIG: join(this.folder, 'config'), DOCKER_BUILDKIT: '0' } // prettier-ignore
  }

  get #socket(): string {
    return join(this.folder, 'docker.sock')
  }

  /** Everything dockerd has logged. */
  get log(): string {
    return readFileSync(join(this.folder, 'log'), 'utf8')
  }

  /** The process of dockerd; 0 when it does not run. */
  get pid(): number {
    return this.#daemon?.child.pid ?? 0
  }

  /** Calls docker; returns its standard output without the last newline. Rejects with what docker says when it fails or takes too long. */
  async docker(args: readonly string[], options: CallOptions = {}): Promise<string> {
    const { exitCode, stdout, stderr } = await this.tryDocker(args, options)
    assert.equal(exitCode, 0, `docker ${args.join(' ')}\n${stdout}\n${stderr}`)
    return stdout
  }

  /** Removes all containers, with their volumes that have no name. */
  async removeContainers(): Promise<void> {
    const containers = await this.docker(['ps', '-aq'])
    if (containers !== '') await this.docker(['rm', '-f', '-v', ...containers.split('\n')])
  }

  /** Calls docker; a failure is an outcome as well. Rejects only when it takes too long. */
  tryDocker(args: readonly string[], options: CallOptions = {}): Promise<Outcome> {
    return this.run('docker', args, options)
  }

  /** Calls any client of the engine, `docker-compose` for one. Rejects only when it takes too long. */
  async run(program: string, args: readonly string[], { cwd, input, env, timeoutMs = callLimitMs }: CallOptions = {}): Promise<Outcome> {
    const given = input === undefined ? { stdin: 'ignore' as const } : { input }
    // timeout(1) kills the program's children too, which would go on and hold its pipes.
    const result = await execa('timeout', ['--signal=KILL', String(timeoutMs / 1000), program, ...args], {
      ...given,
      ...(cwd === undefined ? {} : { cwd }),
      env: { ...env, ...this.environment },
      reject: false,
    })
    const isKilled = result.signal === 'SIGKILL' || result.exitCode === killedCode
    assert.ok(!isKilled, `${program} ${args.join(' ')}: took longer than ${String(timeoutMs)} ms\n${result.stdout}\n${result.stderr}`)
    return { exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr: result.stderr }
  }

  /** What docker says of a container. */
  async inspect(container: string): Promise<ContainerState> {
    return JSON.parse(await this.docker(['inspect', '--format', '{{json .State}}', container])) as ContainerState
  }

  /** Everything a container has printed, a line each. */
  async logs(container: string): Promise<string[]> {
    const { stdout, stderr } = await this.tryDocker(['logs', container])
    return `${stdout}\n${stderr}`.split('\n').filter((line) => line !== '')
  }

  /** Whether there is an image of that name. */
  async hasImage(name: string): Promise<boolean> {
    return (await this.tryDocker(['image', 'inspect', name])).exitCode === 0
  }

  /** Starts dockerd, the first time or again after `killDaemon` or `stopDaemon`; containers with a restart policy come back. */
  async startDaemon(): Promise<void> {
    const isOwn = (this.#options.network ?? 'own') === 'own'
    const flags = [
      ...['--data-root', join(cacheFolder(), 'docker'), '--exec-root', join(this.folder, 'exec')],
      ...['-H', `unix://${this.#socket}`, '-p', join(this.folder, 'pid'), '--config-file', join(this.folder, 'daemon.json')],
      // A folder of control groups of our own: Docker's would stay behind.
      ...['--cgroup-parent', `/${basename(runFolder())}`, '--shutdown-timeout', '10'],
      ...(isOwn ? [] : ['--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false']),
      ...(this.#options.flags ?? []),
    ]
    rmSync(join(this.folder, 'pid'), { force: true }) // of one that was killed
    const log = openSync(join(this.folder, 'log'), 'a')
    const child = spawn('dockerd', flags, { stdio: ['ignore', log, log] })
    closeSync(log)
    this.#daemon = { child, ended: once(child, 'exit') }
    await until(
      'dockerd answers',
      async () => {
        assert.ok(child.exitCode === null && child.signalCode === null, `dockerd ended:\n${this.log.slice(-4000)}`)
        return (await this.tryDocker(['version'])).exitCode === 0
      },
      startLimitMs,
    ).catch(async (error: unknown) => {
      await this.#killDaemon()
      throw new Error(`no engine: ${String(error)}\n${this.log.slice(-4000)}`, { cause: error })
    })
  }

  /** Stops dockerd in order, and by force when that takes too long. Containers end with it. */
  async stopDaemon(): Promise<void> {
    const daemon = this.#daemon
    if (daemon === undefined) return
    daemon.child.kill('SIGTERM')
    const hasEnded = await Promise.race([daemon.ended.then(() => true), sleep(stopLimitMs, false, { ref: false })])
    if (!hasEnded) await this.#killDaemon()
    this.#daemon = undefined
  }

  /** SIGKILL to dockerd, as a crash is; containers and containerd go on. */
  async killDaemon(): Promise<void> {
    await this.#killDaemon()
  }

  /** Removes everything but images and ends the daemon. */
  async stop(): Promise<void> {
    try {
      if (this.#daemon !== undefined) await this.#clear()
    } finally {
      await this.stopDaemon()
      await this.#unmountAll()
      rmSync(this.folder, { recursive: true, force: true })
    }
  }

  async #killDaemon(): Promise<void> {
    const daemon = this.#daemon
    this.#daemon = undefined
    if (daemon === undefined) return
    daemon.child.kill('SIGKILL')
    await daemon.ended
  }

  /** What dockerd leaves mounted: the network namespaces it made, and after a kill the files of containers. */
  async #unmountAll(): Promise<void> {
    const below = listMounts().filter(({ mountpoint }) => mountpoint.startsWith(`${this.folder}/`))
    for (const { mountpoint } of below.reverse()) await execa('umount', ['-l', '--', mountpoint], { reject: false, timeout: callLimitMs })
  }

  /** Removes containers, networks and volumes, and images without a name that no build has used for a week. */
  async #clear(): Promise<void> {
    await this.removeContainers()
    await this.docker(['network', 'prune', '-f'])
    const volumes = await this.docker(['volume', 'ls', '-q'])
    if (volumes !== '') await this.docker(['volume', 'rm', '-f', ...volumes.split('\n')])
    await this.docker(['image', 'prune', '-f', '--filter', 'until=168h'])
  }
}

/** The folder for all that is kept between runs: the base image, the engine's images. */
export function cacheFolder(): string {
  return environmentFolder('LITEVOL_TEST_CACHE')
}

/** The folder for all that goes with the run. */
export function runFolder(): string {
  return environmentFolder('LITEVOL_TEST_RUN')
}

function environmentFolder(name: string): string {
  const folder = process.env[name]
  assert.ok(folder !== undefined && folder !== '', `${name} is not set: run this by npm run test:containers`)
  return folder
}
