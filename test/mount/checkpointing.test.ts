/** When the WAL is copied and given back: who writes a little again and again is not idle. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { statSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setInterval, setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { makeLogger } from '../../src/base/index.ts'
import { blockSize } from '../../src/engine/schema.ts'
import { Maintenance, Volume, createVolumeFile } from '../../src/engine/index.ts'
import { availableMemory } from '../../src/fuse/index.ts'
import { startCheckpointing } from '../../src/mount/checkpointing.ts'
import { ext4 } from '../../src/mount/wal-allocation.ts'
import { cached, drop } from '../engine/page-cache.ts'
import { assertClean, makeFile, seededBytes, until, withFolder } from '../support.ts'
import { withSmallDisk } from './support.ts'

/** Starts it as a FUSE process does by default; returns how to stop it. */
const start = (maintenance: Maintenance): (() => void) =>
  startCheckpointing({ maintenance, logger: makeLogger('test', 'warn'), snapshotWalLimit: 1 << 30, onPressure: () => undefined })

test('the WAL of who writes as much again and again is not taken for an idle one', () =>
  // with little room an idle WAL is emptied after two seconds
  withSmallDisk('64m', async (disk) => {
    const file = join(disk, 'v.sqlite')
    createVolumeFile(file)
    const [volume, maintenance] = [Volume.open(file), new Maintenance(file)]
    const ino = makeFile(volume, volume.root, 'file', seededBytes(0, 4096))
    const stop = start(maintenance)
    try {
      let [emptied, longestMs, last] = [0, 0, performance.now()]
      for (let i = 1; i <= 30; i++) {
        if (i > 1 && statSync(`${file}-wal`).size === 0) emptied++
        volume.write(ino, 0, seededBytes(i, 4096), { keepTimes: false, killPrivileges: false })
        longestMs = Math.max(longestMs, performance.now() - last)
        last = performance.now()
        await sleep(250) // the pause is what is tested: longer than two looks at the WAL
      }
      assert.ok(emptied === 0 || longestMs > 1500, `emptied ${String(emptied)} times, longest pause ${String(longestMs)} ms`)
    } finally {
      stop()
      maintenance.close()
      volume.close()
    }
    assertClean(file)
  }))

test('another SQLite that reads an idle volume keeps writers waiting for a moment only, and once in a while', () =>
  withFolder(async (folder) => {
    const file = join(folder, 'v.sqlite')
    createVolumeFile(file)
    const [volume, maintenance] = [Volume.open(file), new Maintenance(file)]
    const reader = new Database(file, { readonly: true })
    try {
      makeFile(volume, volume.root, 'before', seededBytes(1, 4096))
      reader.exec('BEGIN')
      assert.equal(reader.prepare('SELECT count(*) FROM dentries').pluck().get(), 1)
      const ino = makeFile(volume, volume.root, 'after', seededBytes(2, 4096))
      const start = performance.now()
      assert.ok(maintenance.truncateWal().framesRemaining > 0)
      assert.equal(maintenance.restartWal(), false)
      const seconds = (performance.now() - start) / 1000
      assert.ok(seconds < 20, `writers would have waited for ${String(seconds)} s`) // SQLite by itself: 30 s each
      volume.write(ino, 0, seededBytes(3, 4096), { keepTimes: false, killPrivileges: false })
      assert.equal(reader.prepare('SELECT count(*) FROM dentries').pluck().get(), 1)
      reader.exec('COMMIT')
      assert.equal(maintenance.restartWal(), true)
      assert.equal(maintenance.truncateWal().framesRemaining, 0)
      assert.equal(statSync(`${file}-wal`).size, 0)
    } finally {
      reader.close()
      maintenance.close()
      volume.close()
    }
    assertClean(file)
  }))

/** Writes `count` times 32 MiB of new content, more often than the WAL is looked at, and calls `look` before each. */
async function burst(volume: Volume, count: number, look: (done: number) => void): Promise<void> {
  const ino = makeFile(volume, volume.root, 'large', Buffer.alloc(0))
  const content = randomBytes(32 << 20)
  let done = 0
  for await (const _ of setInterval(50)) {
    look(done)
    if (done === count) return
    for (let offset = 0; offset < content.length; offset += blockSize) content.writeUInt32LE(done, offset) // else it would be stored once
    for (let part = 0; part < 32; part++) {
      const data = content.subarray(part << 20, (part + 1) << 20)
      volume.write(ino, done * content.length + (part << 20), data, { keepTimes: false, killPrivileges: false })
    }
    done++
  }
}

test('the WAL of large writes is not copied until it is half a GiB long, or nobody writes any more', (t) =>
  withFolder(async (folder) => {
    const file = join(folder, 'v.sqlite')
    createVolumeFile(file)
    const [volume, maintenance] = [Volume.open(file), new Maintenance(file)]
    const isRoomy = (): boolean => maintenance.diskBytes() >= 9 * 2 ** 30 && availableMemory() >= 3 * 2 ** 30
    const stop = start(maintenance)
    try {
      let [longest, roomiest, mostBehind, copied, wasRoomy] = [0, 0, 0, 0, isRoomy()]
      await burst(volume, 24, (done) => {
        wasRoomy &&= isRoomy() // other tests take some meanwhile
        if (done <= 14) copied = Math.max(copied, maintenance.walFrames().framesCheckpointed)
        longest = Math.max(longest, maintenance.walBytes())
        const { blocks, size } = statSync(maintenance.wal)
        roomiest = Math.max(roomiest, blocks * 512)
        mostBehind = Math.max(mostBehind, blocks * 512 - size)
      })
      if (!wasRoomy) {
        t.skip('there is too little room on the disk or in memory for it')
        return
      }
      assert.equal(copied, 0)
      assert.ok(longest > 448 << 20 && longest < 700 << 20, `the WAL was ${String(longest)} bytes long`) // all would have been 800 MiB
      if (statfsSync(folder).type === ext4) {
        assert.ok(roomiest >= 640 << 20, `there was room for ${String(roomiest)} bytes of it`)
        // What is written has blocks up to its end: those behind it were asked for.
        assert.ok(mostBehind >= 32 << 20, `there was room for ${String(mostBehind)} bytes behind it`)
      }
      await until('all of it is copied', () => maintenance.walFrames().framesRemaining === 0, 60_000)
    } finally {
      stop()
      maintenance.close()
      volume.close()
    }
    assertClean(file)
  }))

test('the lists of free pages are in memory before large writes come to them', () =>
  withFolder(async (folder) => {
    const file = join(folder, 'v.sqlite')
    createVolumeFile(file)
    const volume = Volume.open(file)
    await burst(volume, 8, () => undefined)
    const ino = volume.lookup(volume.root, Buffer.from('large'))?.ino
    assert.ok(ino !== undefined)
    volume.unlink(volume.root, Buffer.from('large'))
    volume.collect([ino])
    const maintenance = new Maintenance(file)
    maintenance.truncateWal()
    const trunkBytes = 60 * 4096 // 256 MiB of free pages, of which one lists 4 MiB
    drop(file)
    const stop = start(maintenance)
    try {
      const before = cached(file)
      let after = 0
      await burst(volume, 5, () => (after = Math.max(after, cached(file)))) // who writes them reads 40 of the lists
      assert.ok(after - before >= trunkBytes, `${String(after - before)} bytes more`)
    } finally {
      stop()
      maintenance.close()
      volume.close()
    }
    assertClean(file)
  }))

test('on a disk with little room it is copied as that of any other busy volume', () =>
  withSmallDisk('512m', async (disk) => {
    const file = join(disk, 'v.sqlite')
    createVolumeFile(file)
    const [volume, maintenance] = [Volume.open(file), new Maintenance(file)]
    const stop = start(maintenance)
    try {
      let copied = 0
      await burst(volume, 4, () => (copied = Math.max(copied, maintenance.walFrames().framesCheckpointed)))
      assert.ok(copied > 0)
    } finally {
      stop()
      maintenance.close()
      volume.close()
    }
    assertClean(file)
  }))
