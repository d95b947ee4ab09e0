/**
 * Runs a test on a real mount that a child process serves.
 * Keeps: no mount, child or descriptor is left; a mount that hangs is aborted after `TIME_LIMIT_MS`, so that the test fails
 * instead of hanging. The test itself must touch the mount with node:fs/promises only: the thread that watches stays free.
 * Leaves: what is served to serve-memory.ts.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, mkdtempSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { abortConnection, deviceNumber, findMount, unmountFuse } from '../../src/fuse/mount.ts'
import type { Negotiated } from '../../src/fuse/negotiate.ts'

/** From when it is mounted on. */
const TIME_LIMIT_MS = 300_000
const START_LIMIT_MS = 60_000

/** What the test gets. */
export interface Mounted {
  readonly mountpoint: string
  readonly negotiated: Negotiated
  readonly server: ChildProcess
  /** Unmounts and waits for the server; returns what it counted. */
  finish(): Promise<Ended>
}

/** The last line of the server. */
export interface Ended {
  readonly counts: Readonly<Record<string, number>>
  readonly nodes: number
  /** How often content was told of before its WRITE was served, how many of those WRITEs came, and what was never taken back. */
  readonly expectations: number
  readonly uses: number
  readonly left: number
  /** How often it let the event loop turn, every 50 requests. */
  readonly turns: number
  readonly exitCode: number | null
}

/** Why no mount can be made here, or false: the `skip` of a test. */
export const noMount: string | false = whyNoMount()

function whyNoMount(): string | false {
  if (process.getuid?.() !== 0) return 'mount(2) needs root'
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK)
    return false
  } catch {
    return 'no /dev/fuse'
  }
}

/** Mounts, runs `body`, unmounts, whatever happens. */
export async function withMount(body: (mounted: Mounted) => Promise<void>, { source = 'test', fault = 'none' } = {}): Promise<void> {
  const mountpoint = mkdtempSync(join(tmpdir(), 'litevol-fuse-'))
  const script = join(import.meta.dirname, 'serve-memory.ts')
  const server = spawn(process.execPath, [script, mountpoint, source, fault], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(server, 'exit')
  let watchdog: NodeJS.Timeout | undefined
  try {
    const lines = createInterface({ input: server.stdout })[Symbol.asyncIterator]()
    const { negotiated } = (await withLimit(nextLine(lines), START_LIMIT_MS)) as { negotiated: Negotiated }
    watchdog = setTimeout(() => void abort(mountpoint), TIME_LIMIT_MS)
    const finish = async (): Promise<Ended> => {
      await unmountFuse(mountpoint)
      const ended = (await nextLine(lines)) as Omit<Ended, 'exitCode'>
      await exited
      return { ...ended, exitCode: server.exitCode }
    }
    await body({ mountpoint, negotiated, server, finish })
  } finally {
    clearTimeout(watchdog)
    if (findMount(mountpoint) !== undefined) await unmountFuse(mountpoint, { lazy: true }).catch(() => abort(mountpoint))
    if (server.exitCode === null && server.signalCode === null) await withLimit(exited, START_LIMIT_MS).catch(() => server.kill('SIGKILL'))
    rmdirSync(mountpoint)
  }
}

function abort(mountpoint: string): void {
  if (findMount(mountpoint) !== undefined) abortConnection(deviceNumber(mountpoint).minor)
}

async function nextLine(lines: AsyncIterator<string>): Promise<unknown> {
  const next = await lines.next()
  if (next.done === true) throw new Error('the server ended without a line')
  return JSON.parse(next.value)
}

async function withLimit<T>(promise: Promise<T>, limitMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => (timer = setTimeout(() => reject(new Error(`nothing after ${limitMs} ms`)), limitMs)))
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
