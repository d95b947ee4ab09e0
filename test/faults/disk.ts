/**
 * A disk of a test that loses power or answers with errors when told to: a process of its own, its folders, its mountpoint.
 * Keeps: orders and the status go through an extended attribute of the mount's root, so an order takes effect between two
 *   requests; the mount is accessed by other processes only; when the callback is done nothing is mounted and nothing runs.
 * Leaves: what a fault does to fault-gate.ts and faulty-disk.ts.
 */
import assert from 'node:assert/strict'
import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { abortConnection, listMounts } from '../../src/fuse/mount.ts'
import { controlName, type CutOrder, type FailOrder, type Order, type Status } from './fault-gate.ts'

const program = fileURLToPath(new URL('passthrough.ts', import.meta.url))

/** How long an order may take, in ms: a cut copies the disk. */
const orderLimitMs = 60_000

const execute = promisify(execFile)

export class TestDisk {
  readonly mountpoint: string
  readonly #child: ChildProcess

  private constructor(mountpoint: string, child: ChildProcess) {
    this.mountpoint = mountpoint
    this.#child = child
  }

  /** Serves at FOLDER/disk what lies in `source` now, or nothing; `folder` is made. */
  static async start(folder: string, source: string | undefined, seed: number): Promise<TestDisk> {
    const [mountpoint, files, empty] = ['disk', 'files', 'empty'].map((name) => join(folder, name)) as [string, string, string]
    for (const path of [folder, mountpoint, files, empty]) mkdirSync(path)
    const args = ['--disable-warning=ExperimentalWarning', program, mountpoint, files, source ?? empty, String(seed)]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const disk = new TestDisk(mountpoint, child)
    const [line] = (await Promise.race([once(child.stdout, 'data'), once(child, 'exit').then(() => ['ended'])])) as [unknown]
    if (String(line) !== 'ready\n') {
      await disk.destroy()
      assert.fail('the faulty disk does not serve')
    }
    return disk
  }

  /** Cuts the power; see CutOrder. */
  async cut(order: CutOrder): Promise<void> {
    await this.#order({ cut: order })
  }

  /** From now on requests fail so; these orders replace the earlier ones. */
  async fail(...orders: readonly FailOrder[]): Promise<void> {
    await this.#order({ fail: orders })
  }

  async status(): Promise<Status> {
    const { stdout } = await execute('getfattr', ['--only-values', '-n', controlName, this.mountpoint], { timeout: orderLimitMs })
    return JSON.parse(stdout) as Status
  }

  /** Ends the process and its mount, whoever uses it. */
  async destroy(): Promise<void> {
    this.#child.kill('SIGKILL')
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit')
    spawnSync('umount', ['-l', '-c', this.mountpoint], { stdio: 'ignore' })
  }

  async #order(order: Order): Promise<void> {
    const args = ['-n', controlName, '-v', JSON.stringify(order), this.mountpoint]
    await execute('setfattr', args, { timeout: orderLimitMs })
  }
}

/** Ends by force, as a power cut does, every process whose arguments or environment name `folder`, and every mount below it. */
export function destroyEverythingIn(folder: string): void {
  for (let pids = processesOf(folder); pids.length > 0; pids = processesOf(folder)) {
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // it has ended by itself
      }
    }
    abortMountsIn(folder) // or a process that waits on a mount of its own could not end
  }
  abortMountsIn(folder)
}

function abortMountsIn(folder: string): void {
  for (const { mountpoint, fstype, minor } of listMounts().toReversed()) {
    if (!mountpoint.startsWith(`${folder}/`)) continue
    if (fstype === 'fuse.litevol') abortConnection(minor)
    spawnSync('umount', ['-l', '-c', mountpoint], { stdio: 'ignore' })
  }
}

/** Processes that run and have the folder among their arguments or variables: services started for it, FUSE processes, writers. */
function processesOf(folder: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
    .filter(
      (pid) => ['cmdline', 'environ'].some((file) => readProc(pid, file).includes(folder)) && !/^State:\s+Z/m.test(readProc(pid, 'status')),
    )
    .map(Number)
}

function readProc(pid: string, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return '' // it has ended
  }
}
