/** How long the WAL is: where zeros go ahead of it, that SQLite takes none for a frame, and what is cut off. */
import assert from 'node:assert/strict'
import { readFileSync, rmSync, statSync, truncateSync } from 'node:fs'
import { test } from 'node:test'
import type { Ino } from '../../src/base/index.ts'
import { Maintenance, Volume, checkVolume, createVolumeFile, keptWalBytes } from '../../src/engine/index.ts'
import { pageSize } from '../../src/engine/schema.ts'
import { assertClean, crash, names, seededBytes, withFolder } from '../support.ts'
import { join } from 'node:path'

const write = { keepTimes: false, killPrivileges: false }
const file = (folder: string): string => {
  const path = join(folder, 'v.sqlite')
  createVolumeFile(path)
  return path
}
const create = (volume: Volume, name: string): Ino => volume.create(volume.root, Buffer.from(name), { uid: 0, gid: 0, mode: 0o100644 }).ino

/** Where the last frame of the WAL ends, in bytes; the maintenance connection is asked. */
const position = (maintenance: Maintenance): number => {
  const { framesCheckpointed, framesRemaining } = maintenance.walFrames()
  return 32 + (framesCheckpointed + framesRemaining) * (pageSize + 24)
}

test('behind the last frame the WAL has zeros, enough for what comes next; for who syncs often it has none', () =>
  withFolder((folder) => {
    const path = file(folder)
    const volume = Volume.open(path)
    const maintenance = new Maintenance(path)
    const ino = create(volume, 'file')
    for (let i = 0; i < 40; i++) {
      volume.write(ino, i << 16, seededBytes(i, 1 << 16), write)
      if (i < 16) continue
      const wal = readFileSync(`${path}-wal`)
      const end = position(maintenance)
      assert.ok(wal.length >= end && wal.length - end <= 512 << 10, `${String(wal.length - end)} bytes ahead`)
      assert.equal(wal.length % (64 << 10), 0)
      assert.ok(wal.subarray(end).every((byte) => byte === 0))
    }
    volume.sync()
    maintenance.truncateWal()
    for (let i = 0; i < 40; i++) {
      volume.write(ino, i << 16, seededBytes(100 + i, 1 << 16), write)
      volume.sync()
      assert.equal(statSync(`${path}-wal`).size, position(maintenance))
    }
    maintenance.close()
    volume.close()
    assertClean(path)
  }))

test('what a large write leaves of the WAL is cut off when somebody syncs often and the WAL starts anew, and kept for who writes much', () =>
  withFolder((folder) => {
    const path = file(folder)
    const volume = Volume.open(path)
    const maintenance = new Maintenance(path)
    const ino = create(volume, 'file')
    const sizeAnew = (): number => {
      maintenance.restartWal()
      volume.write(ino, 0, seededBytes(1, 100), write)
      return statSync(`${path}-wal`).size
    }
    const megabytes = 1 + keptWalBytes / 2 ** 20
    for (let i = 0; i < megabytes; i++) volume.write(ino, i << 20, seededBytes(i, 1 << 20), write)
    assert.ok(sizeAnew() > keptWalBytes)
    for (let i = 0; i < 200; i++) {
      volume.write(ino, i << 12, seededBytes(1000 + i, 1 << 12), write)
      volume.sync()
    }
    assert.equal(sizeAnew(), keptWalBytes)
    for (let i = 0; i < megabytes; i++) volume.write(ino, i << 20, seededBytes(2000 + i, 1 << 20), write)
    assert.ok(sizeAnew() > keptWalBytes)
    maintenance.close()
    volume.close()
    assertClean(path)
  }))

/** How many bytes of a WAL are behind its last frame: each frame has the salts of the header, https://www.sqlite.org/fileformat2.html#walformat */
const behindLastFrame = (wal: Buffer): number => {
  let end = 32
  while (wal.subarray(end + 8, end + 16).equals(wal.subarray(16, 24))) end += 24 + pageSize
  return wal.length - end
}

test('a WAL that was emptied or started anew meanwhile is written as before', () =>
  withFolder((folder) => {
    const path = file(folder)
    const volume = Volume.open(path)
    const maintenance = new Maintenance(path)
    for (let i = 0; i < 60; i++) {
      const ino = create(volume, `f${String(i)}`)
      volume.write(ino, 0, seededBytes(i, 100_000), write)
      if (i % 7 === 3) maintenance.truncateWal()
      if (i % 7 === 5) maintenance.restartWal()
    }
    assert.ok(statSync(`${path}-wal`).size < 4 << 20)
    maintenance.close()
    volume.close()
    assertClean(path)
    const again = Volume.open(path)
    for (let i = 0; i < 60; i++) {
      const into = Buffer.alloc(100_000)
      again.read(again.lookup(again.root, Buffer.from(`f${String(i)}`))?.ino ?? (0 as Ino), 0, into)
      assert.ok(into.equals(seededBytes(i, 100_000)), `f${String(i)}`)
    }
    again.close()
  }))

test('zeros behind the last commit of a killed process are no damage, nor is their lack', () =>
  withFolder((folder) => {
    for (const part of [0, 0.1, 1]) {
      const path = file(folder)
      crash(path, `for (let i = 0; i < 60; i++) volume.create(volume.root, Buffer.from('a' + i), { uid: 0, gid: 0, mode: 0o100644 })`)
      const wal = readFileSync(`${path}-wal`)
      assert.ok(behindLastFrame(wal) > 1000)
      truncateSync(`${path}-wal`, wal.length - Math.floor(part * behindLastFrame(wal)))
      rmSync(`${path}-shm`, { force: true })
      assert.deepEqual(checkVolume(path, { deep: true }), [])
      const volume = Volume.open(path)
      assert.equal(names(volume, volume.root).length, 60)
      volume.close()
      assertClean(path)
      rmSync(path)
    }
  }))
