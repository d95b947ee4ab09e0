/**
 * Promise 1: the whole mount dies at random moments, its keeper with it, and the volume is mounted again.
 * Keeps: what was acknowledged is there each time: operations that were answered, data that was fsynced; what was begun is done or
 *   not, nothing between; the check is clean before the volume is mounted again.
 */
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createVolumeFile } from '../../../src/engine/index.ts'
import { mountFile, shell, type TestMount } from '../../mount/support.ts'
import { assertClean, seededNumbers, withFolder } from '../../support.ts'
import { Writer, startInserter, sum, type Consumer, type Outcome } from './consumers.ts'
import type { KillReport } from './report.ts'

/** The longest that consumers work before a kill, in ms. */
const longestWorkMs = 1500

const folders = ['one', 'two']

/** Kills the mount of a new volume `kills` times under consumers, at moments that `seed` decides. */
export function killMounts(kills: number, seed: number): Promise<KillReport> {
  return withFolder(async (folder) => {
    const file = join(folder, 'volume.sqlite')
    const mountpoint = join(folder, 'mount')
    createVolumeFile(file)
    mkdirSync(mountpoint)
    const next = seededNumbers(seed)
    const outcomes: Outcome[] = []
    for (let count = 0; count <= kills; count++) {
      // Without a successor, or with one that is killed as well.
      const mount = await mountFile(file, mountpoint, { mode: next() % 2 === 0 ? 'once' : 'standby' })
      try {
        outcomes.push(
          ...(await work(mount, { folder, seed: seed + count * folders.length, ms: next() % longestWorkMs, isLast: count === kills })),
        )
        if (count === kills) await mount.stop()
      } finally {
        if (mount.isAlive) mount.keeper.kill()
        await mount.ended()
        await shell('umount -l "$1" 2>/dev/null || true', mountpoint)
      }
      assertClean(file)
    }
    const interrupted = outcomes.filter(({ end }) => end !== null).length
    return { kills, ...sum(outcomes), more: [`${String(interrupted)} consumers interrupted`] }
  })
}

interface Round {
  readonly folder: string
  readonly seed: number
  /** How long the consumers work. */
  readonly ms: number
  /** The mount is not killed. */
  readonly isLast: boolean
}

/** Proves what is there from before, then has consumers work until the mount is killed under them. */
async function work(mount: TestMount, { folder, seed, ms, isLast }: Round): Promise<Outcome[]> {
  const { mountpoint } = mount
  const writers = folders.map((name, at) => {
    const place = join(mountpoint, name)
    mkdirSync(place, { recursive: true })
    const manifest = join(folder, `${name}.manifest`)
    Writer.assertAsAcknowledged(place, manifest)
    return new Writer(place, manifest, seed + at, 'torn')
  })
  const consumers: Consumer[] = [...writers, startInserter(mountpoint, join(folder, 'rows.log'), 'torn')]
  try {
    await sleep(ms)
    if (isLast) return await Promise.all(consumers.map((consumer) => consumer.stop()))
    mount.keeper.kill()
    await mount.ended()
    const outcomes = await Promise.all(consumers.map((consumer) => consumer.ended()))
    for (const { end } of outcomes) assert.notEqual(end, null)
    return outcomes
  } finally {
    for (const consumer of consumers) consumer.kill()
  }
}
