/**
 * A FUSE process of a test: started as the supervisor does, spoken to over its channel, unmounted whatever happens.
 * Keeps: the mount is accessed by other processes than the one that serves it, always under a time limit; afterwards no
 *   mount and no process is left and the volume's check is clean.
 */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { driverNames, fromPlainError, toPlainError, type DriverName } from '../../src/base/index.ts'
import { createVolumeFile } from '../../src/engine/index.ts'
import { Keeper, type Exit, type KeeperMode, type StartWish } from '../../src/manager/keeper.ts'
import { identifyProcess, isRunning } from '../../src/manager/process-identity.ts'
import { ProcessLink } from '../../src/manager/process-link.ts'
import type { CallMessage, CallName, Calls, EventMessage, ProcessMessage } from '../../src/mount/messages.ts'
import { assertClean, withFolder } from '../support.ts'

/** The drivers, and why one cannot be tested here: the `skip` of a test. */
export const drivers: readonly { readonly driver: DriverName; readonly skip: string | false }[] = driverNames.map((driver) => {
  const isMissing = driver === 'fuse-native' && process.arch !== 'x64'
  return { driver, skip: isMissing ? `fuse-native brings no binary for ${process.arch}` : false }
})

/** How long anything that touches a mount may take, in ms. */
const limitMs = 300_000

/** How a test starts a mount: with the options of a FUSE process, and whether it is replaced when it dies. */
export interface MountChoice extends Partial<StartWish> {
  readonly mode?: KeeperMode
  /** Where the log goes; default: this process's standard error. */
  readonly errors?: Writable
}

/** A served mount. */
export class TestMount {
  readonly file: string
  readonly mountpoint: string
  readonly keeper: Keeper
  readonly events: EventMessage[] = []
  readonly #link: ProcessLink
  #exit: Exit | undefined
  #nextId = 1
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>()
  readonly #changed = new EventTarget()

  constructor(file: string, mountpoint: string, { mode = 'once', errors, ...change }: MountChoice = {}) {
    this.file = file
    this.mountpoint = mountpoint
    const wish: StartWish = {
      file,
      source: file,
      mountpoint,
      readOnly: false,
      driver: 'direct',
      mountOptions: [],
      // Beside the mountpoint: it goes with the test's folder when a killed keeper has left it.
      runFolder: `${mountpoint}-run-${String(randomInt(2 ** 32))}`,
      hasLeash: false,
      logLevel: 'warn',
      holdSnapshot: false,
      snapshotWalLimit: 1 << 30,
      isLowLatency: false,
      ownerTimeoutMs: limitMs,
      ...change,
    }
    this.keeper = Keeper.start(wish, mode, errors)
    this.keeper.started().catch((error: unknown) => {
      this.#take({ type: 'failed', error: toPlainError(error) })
    })
    this.#link = new ProcessLink(wish.runFolder, (message) => {
      this.#take(message)
    })
    void this.keeper.exited.then((exit) => {
      this.#exit = exit
      this.#link.close()
      for (const { reject } of this.#waiting.values()) reject(new Error('the FUSE process ended'))
      this.#changed.dispatchEvent(new Event('change'))
    })
  }

  /** The process that serves now. */
  get pid(): number {
    const ready = this.events.findLast((event) => event.type === 'ready')
    assert.ok(ready !== undefined, 'no FUSE process was ready')
    return ready.pid
  }

  /** Waits for an event; fails when the process ends without it. */
  event<T extends EventMessage['type']>(type: T): Promise<Extract<EventMessage, { type: T }>> {
    return this.until((event): event is Extract<EventMessage, { type: T }> => event.type === type)
  }

  /** Waits for an event that fulfils a condition. */
  async until<E extends EventMessage>(isWanted: (event: EventMessage) => event is E): Promise<E> {
    for (;;) {
      const found = this.events.find(isWanted)
      if (found !== undefined) return found
      assert.ok(this.isAlive, `the FUSE process ended without what was waited for: ${JSON.stringify(this.events)}`)
      await once(this.#changed, 'change', { signal: AbortSignal.timeout(limitMs) })
    }
  }

  get isAlive(): boolean {
    return this.#exit === undefined
  }

  /** Calls the process as the supervisor would. */
  async call<N extends CallName>(call: N, request: Calls[N]['request']): Promise<Calls[N]['reply']> {
    const id = this.#nextId++
    const waiting = Promise.withResolvers<unknown>()
    this.#waiting.set(id, waiting)
    this.#link.send({ id, call, request } as CallMessage)
    return (await waiting.promise) as Calls[N]['reply']
  }

  /** Waits for the end of the mount; returns the exit code or signal. */
  async ended(): Promise<number | string | undefined> {
    const { code, signal } = await this.keeper.exited
    return code ?? signal
  }

  /** Unmounts, by force if need be, and waits for the process. */
  async stop(): Promise<void> {
    if (this.isAlive) this.keeper.signal('SIGTERM')
    const code = await this.ended()
    spawnSync('umount', ['-l', '-c', this.mountpoint], { stdio: 'ignore' })
    assert.equal(code, 0, 'the FUSE process did not end cleanly')
  }

  #take(message: ProcessMessage): void {
    if (message.type === 'reply') this.#waiting.get(message.id)?.resolve(message.reply)
    else if (message.type === 'error') this.#waiting.get(message.id)?.reject(fromPlainError(message.error))
    else {
      this.events.push(message)
      this.#changed.dispatchEvent(new Event('change'))
    }
  }
}

/** Mounts a volume file and waits until it serves. */
export async function mountFile(file: string, mountpoint: string, options: MountChoice = {}): Promise<TestMount> {
  const mount = new TestMount(file, mountpoint, options)
  await mount.event('ready')
  return mount
}

/** What a test does with a mount; the folder is its own. */
type MountWork = (mount: TestMount, folder: string) => Promise<void>

/** Runs `work` with a new mounted volume; afterwards it is unmounted and its check must be clean. */
export const withMount = (work: MountWork, options: MountChoice = {}): Promise<void> =>
  withFolder((folder) => mountedIn(folder, join(folder, 'volume.sqlite'), work, options))

/** As `withMount`, with the volume file on a small disk. */
export const withMountOnSmallDisk = (size: string, work: MountWork, options: MountChoice = {}): Promise<void> =>
  withSmallDisk(size, (disk) => mountedIn(dirname(disk), join(disk, 'volume.sqlite'), work, options))

async function mountedIn(folder: string, file: string, work: MountWork, options: MountChoice): Promise<void> {
  const mountpoint = join(folder, 'mount')
  createVolumeFile(file)
  mkdirSync(mountpoint)
  const mount = await mountFile(file, mountpoint, options)
  try {
    await work(mount, folder)
  } finally {
    if (mount.isAlive) await mount.stop()
    spawnSync('umount', ['-l', '-c', mountpoint], { stdio: 'ignore' })
  }
  assertClean(file)
}

/** Runs `work` with a folder that is a small disk of its own: tmpfs of that size, as mount(8) takes it. It is gone afterwards. */
export const withSmallDisk = (size: string, work: (disk: string) => Promise<void>): Promise<void> =>
  withFolder(async (folder) => {
    const disk = join(folder, 'disk')
    mkdirSync(disk)
    await shell('mount -t tmpfs -o "size=$2" none "$1"', disk, size)
    try {
      await work(disk)
    } finally {
      await shell('umount -l "$1"', disk)
    }
  })

/** Runs a shell script with `$1`, `$2` … set; returns its standard output. Fails with its complaints when it does, and ends what it left. */
export async function shell(script: string, ...args: string[]): Promise<string> {
  const child = spawn('bash', ['-euo', 'pipefail', '-c', script, 'bash', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true, // with a process group of its own
  })
  const endGroup = (): void => {
    assert.ok(child.pid !== undefined)
    spawnSync('kill', ['-KILL', '--', `-${String(child.pid)}`])
  }
  const timer = setTimeout(endGroup, limitMs)
  child.once('exit', (code) => {
    clearTimeout(timer)
    if (code !== 0) endGroup() // its background jobs would write on, with the pipes that are read to their end below
  })
  const [output, complaints, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit') as Promise<[number | null, string | null]>,
  ])
  assert.equal(signal ?? code, 0, `${script}\n${output}${complaints}`)
  return output
}

/** Takes a snapshot and copies its bytes, all of them in the main file after a checkpoint; returns the copy's path. */
export async function copySnapshot(mount: TestMount, folder: string): Promise<string> {
  const { snapshot, pageCount, pageSize } = await mount.call('snapshot-acquire', {})
  await mount.call('checkpoint', {})
  const copy = join(folder, 'copy.sqlite')
  await shell('head -c "$3" "$1" > "$2"', mount.file, copy, String(pageCount * pageSize))
  await mount.call('snapshot-release', { snapshot })
  return copy
}

/** Waits until a process of the mount is gone with all its threads: one that was killed may still read a request on its way out. */
export async function untilDead(mount: TestMount, pid: number): Promise<void> {
  const identity = identifyProcess(pid)
  while (identity !== undefined && (isRunning(identity) || countThreads(pid) > 1)) {
    assert.ok(mount.isAlive)
    await sleep(1)
  }
}

/** The first thread of a process that ends may be a zombie while others still run. */
function countThreads(pid: number): number {
  try {
    return readdirSync(`/proc/${String(pid)}/task`).length
  } catch {
    return 0
  }
}
