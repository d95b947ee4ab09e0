/**
 * Runs the exerciser on a new volume: mounts it, mounts it anew whenever the exerciser asks, checks the file each time.
 * Keeps: the volume is served by a FUSE process, the exerciser is another; the seed stands in the output before anything can fail.
 * Leaves: what is done and compared to exerciser/operations.py. Started by itself (`npm run test:exerciser`) it passes its arguments on.
 */
import assert from 'node:assert/strict'
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { createVolumeFile } from '../../src/engine/index.ts'
import { mountFile, shell, type TestMount } from '../mount/support.ts'
import { assertClean, withFolder } from '../support.ts'

const program = fileURLToPath(new URL('exerciser/main.py', import.meta.url))

/** What the exerciser says at its end. */
export interface Summary {
  readonly operations: number
  /** The most bytes that SEEK_HOLE called holes at a comparison: 0 would mean that it was not tried. */
  readonly holeBytes: number
  readonly counts: Readonly<Record<string, number>>
}

/** Runs main.py with these arguments on a new volume and a new folder of the host; fails when it does, with what it printed. */
export async function exercise(args: readonly string[]): Promise<Summary> {
  let summary: Summary | undefined
  await withFolder(async (folder) => {
    const [host, mountpoint, file] = ['host', 'mount', 'volume.sqlite'].map((name) => join(folder, name)) as [string, string, string]
    for (const path of [host, mountpoint]) mkdirSync(path)
    createVolumeFile(file)
    const served = new Served(await mountFile(file, mountpoint))
    try {
      summary = await run(served, ['--host', host, '--volume', mountpoint, ...args])
    } finally {
      await served.stop()
    }
    assertClean(file)
  })
  return summary ?? assert.fail('it ended without a summary')
}

/** A mounted volume that can be mounted anew. */
class Served {
  #mount: TestMount

  constructor(mount: TestMount) {
    this.#mount = mount
  }

  /** Unmounts, checks the file, mounts it again. */
  async remount(): Promise<void> {
    const { file, mountpoint } = this.#mount
    await shell('umount "$1"', mountpoint)
    await this.#mount.ended()
    assertClean(file)
    this.#mount = await mountFile(file, mountpoint)
  }

  async stop(): Promise<void> {
    await this.#mount.stop()
  }
}

async function run(served: Served, args: readonly string[]): Promise<Summary> {
  const child = spawn('python3', ['-B', program, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(child, 'exit') as Promise<[number | null, string | null]>
  try {
    const last = await converse(child, served)
    const [code, signal] = await ended
    assert.equal(signal ?? code, 0, 'the exerciser found a difference: its last operations stand above')
    return JSON.parse(last) as Summary
  } finally {
    child.kill('SIGKILL')
    await ended
  }
}

/** Prints what the exerciser says and remounts when it asks for it; returns the last line. */
async function converse(child: ChildProcessByStdio<Writable, Readable, null>, served: Served): Promise<string> {
  let last = ''
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === 'remount') {
      await served.remount()
      child.stdin.write('mounted\n')
    } else {
      console.log(line)
      last = line
    }
  }
  return last
}

/** A seed that nobody chose. */
export function randomSeed(): string {
  return String(randomInt(2 ** 32))
}

if (import.meta.main) {
  const given = process.argv.slice(2)
  const seed = given.some((argument) => argument.startsWith('--seed')) ? [] : ['--seed', randomSeed()]
  await exercise(['--remount-every', '10000', ...seed, ...given])
}
