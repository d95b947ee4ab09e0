/**
 * The started service of a test: the real command in a child, its own roots in a temporary folder, real curl.
 * Keeps: when the callback is done the service is stopped (exit 0 within 10 s), and no mount, process or file of it is left.
 */
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { checkVolume } from '../../src/engine/index.ts'
import { shell } from '../mount/support.ts'
import { withFolder } from '../support.ts'

/** The command as users start it. */
export const litevol = fileURLToPath(new URL('../../bin/litevol', import.meta.url))

/** How long the service may take to start, in ms: preflight, and on a busy machine Node itself. */
const startLimitMs = 60_000

/** How long a stop may take, in ms: the promise of the service. */
const stopLimitMs = 10_000

export interface Roots {
  readonly dataRoot: string
  readonly mountRoot: string
}

/** A running service. */
export class Service {
  readonly url: string
  readonly roots: Roots
  readonly child: ChildProcess
  /** Every line it has printed. */
  readonly output: readonly string[]

  private constructor(url: string, roots: Roots, child: ChildProcess, output: readonly string[]) {
    this.url = url
    this.roots = roots
    this.child = child
    this.output = output
  }

  /** Starts `litevol serve` on a free port; returns when it listens. `launcher` are the words before the command. */
  static async start(roots: Roots, environment: Readonly<Record<string, string>> = {}, launcher: readonly string[] = []): Promise<Service> {
    const env = {
      ...process.env,
      LITEVOL_PORT: '0',
      LITEVOL_DATA_ROOT: roots.dataRoot,
      LITEVOL_MOUNT_ROOT: roots.mountRoot,
      LITEVOL_RUN_DIR: `${roots.mountRoot}-run`,
      LITEVOL_LOG_LEVEL: 'warn',
      LITEVOL_MOUNT_TIMEOUT: '60', // within which Node has to start, on a machine that may have stalled
      ...environment,
    }
    const [program = litevol, ...args] = [...launcher, litevol, 'serve']
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
    const output: string[] = []
    const url = Promise.withResolvers<string>()
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        output.push(line)
        const found = /listening on (http:\/\/[^\s"]+)/.exec(line)?.[1]
        if (found !== undefined) url.resolve(found)
      })
    }
    child.once('exit', (code, signal) => {
      url.reject(new Error(`litevol serve ended with ${String(code ?? signal)}:\n${output.join('\n')}`))
    })
    const timer = setTimeout(() => {
      url.reject(new Error(`litevol serve does not listen:\n${output.join('\n')}`))
    }, startLimitMs)
    try {
      return new Service(await url.promise, roots, child, output)
    } finally {
      clearTimeout(timer)
    }
  }

  /** Stops it with SIGTERM: it must exit with 0 in time. */
  async stop(signal: 'SIGTERM' | 'SIGINT' = 'SIGTERM'): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill(signal)
      await once(this.child, 'exit', { signal: AbortSignal.timeout(stopLimitMs) })
    }
    assert.equal(this.child.exitCode ?? this.child.signalCode, 0)
  }

  /** Calls the API with JSON; returns status, headers and body. */
  async call(method: string, path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}) {
    const json = body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers } }
    const response = await fetch(`${this.url}${path}`, { method, headers, ...json })
    const text = await response.text()
    const parsed: unknown = text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : text
    return { status: response.status, headers: response.headers, body: parsed as Record<string, unknown> }
  }

  /** Creates a volume; returns its id. */
  async create(name: string): Promise<string> {
    const { status, body } = await this.call('POST', '/volumes', { name })
    assert.equal(status, 201, JSON.stringify(body))
    return String(body['id'])
  }

  /** Mounts a volume; returns its mountpoint. */
  async mount(id: string, options: Readonly<Record<string, unknown>> = {}): Promise<string> {
    const { status, body } = await this.call('POST', `/volumes/${id}/mount`, options)
    assert.equal(status, 200, JSON.stringify(body))
    return String(body['mountpoint'])
  }

  /** The volume files that lie in the data root, by name. */
  volumeFiles(): string[] {
    return readdirSync(join(this.roots.dataRoot, 'volumes'))
  }
}

/** Runs `work` with roots for services, which it starts itself; afterwards no volume may be mounted below them and each volume's check is clean. */
export async function withRoots(work: (roots: Roots, folder: string) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    const roots = { dataRoot: join(folder, 'data'), mountRoot: join(folder, 'mnt') }
    for (const root of Object.values(roots)) mkdirSync(root)
    try {
      await work(roots, folder)
      assert.equal(await shell('findmnt -rn -t fuse.litevol -o TARGET | grep -F "$1" || true', folder), '')
      checkAll(roots)
    } finally {
      await shell('findmnt -rn -o TARGET | grep -F "$1" | sort -r | xargs -r -n1 umount -l', folder).catch(() => undefined)
    }
  })
}

/** Runs `work` with one service. */
export async function withService(
  work: (service: Service, folder: string) => Promise<void>,
  environment: Readonly<Record<string, string>> = {},
): Promise<void> {
  await withRoots(async (roots, folder) => {
    const service = await Service.start(roots, environment)
    try {
      await work(service, folder)
      await service.stop()
    } finally {
      if (service.child.exitCode === null) service.child.kill('SIGKILL')
    }
  })
}

function checkAll({ dataRoot }: Roots): void {
  const folder = join(dataRoot, 'volumes')
  for (const name of readdirSync(folder)) {
    assert.doesNotMatch(name, /-(wal|shm)$/, 'a stopped service leaves one file per volume')
    assert.deepEqual(checkVolume(join(folder, name), { deep: true }), [])
  }
}
