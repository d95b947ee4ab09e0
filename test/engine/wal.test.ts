/** What a bit flipped in the WAL of a killed process does: committed changes are never dropped without a word. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Volume, checkVolume, createVolumeFile, settleVolumeFile } from '../../src/engine/index.ts'
import { assertClean, assertErrno, crash, names, withFolder } from '../support.ts'
import { join } from 'node:path'

const make = (name: string): string => `volume.create(volume.root, Buffer.from('${name}'), { uid: 0, gid: 0, mode: 0o100644 });`
const frameBytes = 24 + 8192

/** A volume whose WAL holds the making of a, b and c; `frames` is how many frames the WAL has. */
const withCrash = (work: (file: string, wal: Buffer, frames: number) => void | Promise<void>): Promise<void> =>
  withFolder(async (folder) => {
    const file = join(folder, 'v.sqlite')
    createVolumeFile(file)
    crash(file, make('a') + make('b') + make('c'))
    const wal = readFileSync(`${file}-wal`)
    await work(file, wal, (wal.length - 32) / frameBytes)
  })

/** Puts the WAL back with one bit flipped. */
function flip(file: string, wal: Buffer, at: number): void {
  const flipped = Buffer.from(wal)
  flipped.writeUInt8(flipped.readUInt8(at) ^ 4, at)
  rmSync(`${file}-shm`, { force: true })
  writeFileSync(`${file}-wal`, flipped)
}

test('a bit flipped in the WAL before the last frame is EIO with the frame, and changes nothing', () =>
  withCrash(async (file, wal, frames) => {
    assert.deepEqual(checkVolume(file, { deep: true }), [])
    const before = readFileSync(file)
    const places = [0, 9, 17, 25] // magic, page size, salt, checksum
    for (let frame = 0; frame < frames - 1; frame++) places.push(32 + frame * frameBytes + 2, 32 + frame * frameBytes + 24 + 4000)
    for (const at of places) {
      flip(file, wal, at)
      const error = assertErrno('EIO', () => Volume.open(file))
      assert.equal(error.problem, 'wal_damaged')
      const frame = at < 32 ? 'its header' : 'frame \\d+ or after'
      assert.match(error.message, new RegExp(`v\\.sqlite-wal, ${frame}$`))
      assert.equal(checkVolume(file)[0]?.rule, 'the WAL is whole up to its last commit')
      await assert.rejects(settleVolumeFile(file, { ownerTimeoutMs: 1000 }), { problem: 'wal_damaged' })
      assert.ok(readFileSync(file).equals(before) && existsSync(`${file}-wal`))
    }
  }))

test('a last frame that a kill cut off ends the WAL, as it must', () =>
  withCrash((file, wal, frames) => {
    flip(file, wal, 32 + (frames - 1) * frameBytes + 24 + 4000)
    const volume = Volume.open(file)
    assert.deepEqual(names(volume, volume.root), ['a', 'b'])
    volume.close()
    assertClean(file)
    writeFileSync(`${file}-wal`, wal.subarray(0, wal.length - 100))
    assert.deepEqual(checkVolume(file), [])
  }))

test('after a power cut the WAL ends at the first frame that is not there, once and for all', () =>
  withCrash((file, wal) => {
    flip(file, wal, 32 + 24 + 100)
    utimesSync(`${file}-wal`, 1, 1) // written before the machine was started
    crash(file, make('d'))
    const volume = Volume.open(file)
    assert.deepEqual(names(volume, volume.root), ['d'])
    volume.close()
    assertClean(file)
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
