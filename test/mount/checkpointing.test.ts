/** When the WAL is copied and given back: who writes a little again and again is not idle. */
import assert from 'node:assert/strict'
import { mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeLogger } from '../../src/base/index.ts'
import { Maintenance, Volume, createVolumeFile } from '../../src/engine/index.ts'
import { startCheckpointing } from '../../src/mount/checkpointing.ts'
import { assertClean, makeFile, seededBytes, withFolder } from '../support.ts'
import { shell } from './support.ts'

test('the WAL of who writes as much again and again is not taken for an idle one', () =>
  withFolder(async (folder) => {
    const disk = join(folder, 'disk') // with little room an idle WAL is emptied after two seconds
    mkdirSync(disk)
    await shell('mount -t tmpfs -o size=64m none "$1"', disk)
    try {
      const file = join(disk, 'v.sqlite')
      createVolumeFile(file)
      const [volume, maintenance] = [Volume.open(file), new Maintenance(file)]
      const ino = makeFile(volume, volume.root, 'file', seededBytes(0, 4096))
      const logger = makeLogger('test', 'warn')
      const stop = startCheckpointing({ maintenance, logger, snapshotWalLimit: 1 << 30, onPressure: () => undefined })
      let [emptied, longestMs, last] = [0, 0, performance.now()]
      for (let i = 1; i <= 30; i++) {
        if (i > 1 && statSync(`${file}-wal`).size === 0) emptied++
        volume.write(ino, 0, seededBytes(i, 4096), { keepTimes: false, killPrivileges: false })
        longestMs = Math.max(longestMs, performance.now() - last)
        last = performance.now()
        await sleep(250) // the pause is what is tested: longer than two looks at the WAL
      }
      stop()
      assert.ok(emptied === 0 || longestMs > 1500, `emptied ${String(emptied)} times, longest pause ${String(longestMs)} ms`)
      maintenance.close()
      volume.close()
      assertClean(file)
    } finally {
      await shell('umount -l "$1"', disk)
    }
  }))
