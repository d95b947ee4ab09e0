/** What a bit flipped in the WAL of a killed process does: committed changes are never dropped without a word. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Volume, checkVolume, createVolumeFile, settleVolumeFile } from '../../src/engine/index.ts'
import { pageSize } from '../../src/engine/schema.ts'
import { assertClean, assertErrno, crash, names, seededNumbers, withFolder } from '../support.ts'
import { join } from 'node:path'

const make = (name: string): string => `volume.create(volume.root, Buffer.from('${name}'), { uid: 0, gid: 0, mode: 0o100644 });`
const frameBytes = 24 + pageSize

/** A volume whose WAL holds the making of a, b and c; `frames` is how many frames the WAL has. */
const withCrash = (work: (file: string, wal: Buffer, frames: number) => void | Promise<void>): Promise<void> =>
  withFolder(async (folder) => {
    const file = join(folder, 'v.sqlite')
    createVolumeFile(file)
    crash(file, make('a') + make('b') + make('c'))
    const wal = readFileSync(`${file}-wal`)
    await work(file, wal, countFrames(wal))
  })

/** Frames of the present generation, by their salts; zeros follow (wal-growth.ts). */
function countFrames(wal: Buffer): number {
  let frames = 0
  while (wal.subarray(32 + frames * frameBytes + 8, 32 + frames * frameBytes + 16).equals(wal.subarray(16, 24))) frames++
  assert.ok(wal.subarray(32 + frames * frameBytes).every((byte) => byte === 0))
  return frames
}

/** Puts the WAL back with one bit flipped. */
function flip(file: string, wal: Buffer, at: number): void {
  const flipped = Buffer.from(wal)
  flipped.writeUInt8(flipped.readUInt8(at) ^ 4, at)
  rmSync(`${file}-shm`, { force: true })
  writeFileSync(`${file}-wal`, flipped)
}

test('a bit flipped anywhere in the WAL is EIO with the frame, and changes nothing', () =>
  withCrash(async (file, wal, frames) => {
    assert.deepEqual(checkVolume(file, { deep: true }), [])
    const before = readFileSync(file)
    const random = seededNumbers(5)
    const places = [0, 9, 17, 25] // magic, page size, salt, checksum
    for (let frame = 0; frame < frames; frame++)
      for (const at of [2, 6, 9, 15, 17, 22, 24, 24 + pageSize - 1, 24 + (random() % pageSize)]) places.push(32 + frame * frameBytes + at)
    for (const at of places) {
      flip(file, wal, at)
      const error = assertErrno('EIO', () => Volume.open(file))
      assert.equal(error.problem, 'wal_damaged')
      const place = at < 32 ? 'its header' : `frame ${String(Math.floor((at - 32) / frameBytes) + 1)}`
      assert.ok(error.message.endsWith(`v.sqlite-wal, ${place}`), `${String(at)}: ${error.message}`)
      assert.deepEqual(checkVolume(file)[0], { rule: 'the WAL is as it was written', place: `${file}-wal, ${place}` })
      await assert.rejects(settleVolumeFile(file, { ownerTimeoutMs: 1000 }), { problem: 'wal_damaged' })
      assert.ok(readFileSync(file).equals(before) && existsSync(`${file}-wal`))
    }
  }))

test('what a kill or a power cut leaves of frames ends the WAL, as it must', () =>
  withCrash((file, wal, frames) => {
    const random = seededNumbers(6)
    const good = readFileSync(file)
    const page = 4096 // of the kernel: what a power cut keeps or loses
    for (let round = 0; round < 60; round++) {
      const left = Buffer.from(wal)
      const lost = page * (1 + (random() % Math.floor(wal.length / page - 1))) // the header was synced
      for (let at = lost; at < Math.min(wal.length, lost + page); at++) left[at] = round % 2 === 0 ? 0 : random() % 256
      writeFileSync(file, good)
      rmSync(`${file}-shm`, { force: true })
      writeFileSync(`${file}-wal`, left.subarray(0, round % 3 === 0 ? left.length - (random() % (frames * 100)) : left.length))
      assert.deepEqual(checkVolume(file, { deep: true }), [])
      const volume = Volume.open(file)
      assert.ok(['', 'a', 'a,b', 'a,b,c'].includes(names(volume, volume.root).join()))
      volume.close()
    }
  }))

test('an older version of page 1 that a power cut left in a frame of it is no damage, what else differs there is', () =>
  withFolder((folder) => {
    const file = join(folder, 'v.sqlite')
    createVolumeFile(file)
    crash(file, `for (let i = 0; i < 300; i++) ${make('f').replace("'f'", "'f' + i")}`) // the file grows
    const [good, wal] = [readFileSync(file), readFileSync(`${file}-wal`)]
    const frames = Array.from({ length: countFrames(wal) }, (_, frame) => 32 + frame * frameBytes)
    const first = frames.filter((at) => wal.readUInt32BE(at) === 1).at(-1) ?? assert.fail('page 1 was not written')
    for (const at of [9, 15, 16 + 1, 24 + 28, 24 + 2000]) {
      flip(file, wal, first + at) // what is told from it: a salt, a checksum, a page
      assert.equal(assertErrno('EIO', () => Volume.open(file)).problem, 'wal_damaged', String(at))
    }
    const random = seededNumbers(7)
    for (let round = 0; round < 64; round++) {
      const left = Buffer.from(wal)
      for (const counter of [31, 39]) left[first + 24 + counter] = random() % 256 // pages, free pages
      writeFileSync(file, good)
      rmSync(`${file}-shm`, { force: true })
      writeFileSync(`${file}-wal`, left)
      const volume = Volume.open(file)
      assert.ok(names(volume, volume.root).length < 300)
      volume.close()
      assertClean(file)
    }
  }))

test('frames of an older generation behind the last commit are no damage', () =>
  withFolder((folder) => {
    const file = join(folder, 'v.sqlite')
    createVolumeFile(file)
    const { href } = new URL('../../src/engine/index.ts', import.meta.url)
    crash(
      file,
      `const { Maintenance } = await import(${JSON.stringify(href)}); const maintenance = new Maintenance(${JSON.stringify(file)});
       for (let i = 0; i < 30; i++) ${make('f').replace("'f'", "'f' + i")} maintenance.checkpoint();` + make('last'),
    )
    const volume = Volume.open(file)
    assert.equal(names(volume, volume.root).length, 31)
    volume.close()
    assertClean(file)
  }))
