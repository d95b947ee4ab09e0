/** The lists of free pages in the page cache: all of them, or as many as were asked for, and nothing else changes. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Maintenance, Volume, createVolumeFile } from '../../src/engine/index.ts'
import { assertClean, makeFile, seededBytes, withFolder } from '../support.ts'
import { cached, drop } from './page-cache.ts'

const plenty = 1 << 30

/** A checkpointed volume of which 24 MiB were deleted: some 6,200 free pages. */
function makeFreePages(file: string): void {
  createVolumeFile(file)
  const volume = Volume.open(file)
  const ino = makeFile(volume, volume.root, 'large', seededBytes(1, 24 << 20))
  volume.unlink(volume.root, Buffer.from('large'))
  volume.collect([ino])
  volume.close()
}

/** The trunk pages of the freelist, in their order, as the format says: each names the next one first. */
function trunksOf(file: string): number[] {
  const bytes = readFileSync(file)
  const trunks: number[] = []
  for (let page = bytes.readUInt32BE(32); page !== 0; page = bytes.readUInt32BE((page - 1) * 4096)) trunks.push(page)
  return trunks
}

test('the lists of free pages are brought into memory, as many as are asked for', () =>
  withFolder((folder) => {
    const file = join(folder, 'v.sqlite')
    makeFreePages(file)
    const trunks = trunksOf(file)
    assert.ok(trunks.length >= 5, `${String(trunks.length)} trunks`)
    const before = readFileSync(file)
    const maintenance = new Maintenance(file)
    drop(file)
    const few = cached(file)
    assert.equal(maintenance.bringFreelistIntoMemory(plenty, 10_000), trunks.length)
    assert.ok(cached(file) >= few + (trunks.length - 1) * 4096, `${String(few)}, then ${String(cached(file))} bytes`)
    assert.equal(maintenance.bringFreelistIntoMemory(1, 10_000), 1)
    assert.equal(maintenance.bringFreelistIntoMemory(8 << 20, 10_000), 3) // a trunk page of 4 KiB names 1,014 pages at most
    assert.equal(maintenance.bringFreelistIntoMemory(plenty, 0), 0)
    assert.ok(readFileSync(file).equals(before))
    maintenance.close()
    assertClean(file)
  }))

test('a list that ends nowhere, or is none any more, is followed no further', () =>
  withFolder((folder) => {
    const file = join(folder, 'v.sqlite')
    makeFreePages(file)
    const [first = 0, second = 0] = trunksOf(file)
    const intact = readFileSync(file)
    const follow = (damage: (bytes: Buffer) => void): number => {
      const bytes = Buffer.from(intact)
      damage(bytes)
      writeFileSync(file, bytes)
      const maintenance = new Maintenance(file)
      const count = maintenance.bringFreelistIntoMemory(plenty, 10_000)
      maintenance.close()
      return count
    }
    const cases: readonly (readonly [damage: (bytes: Buffer) => void, count: number])[] = [
      [(bytes) => bytes.writeUInt32BE(0xffffffff, (first - 1) * 4096), 1], // the next one lies behind the end of the file
      [(bytes) => bytes.writeUInt32BE(1_000_000, (second - 1) * 4096 + 4), 1], // it names more than there is room for
      [(bytes) => bytes.writeUInt32BE(0, 32), 0],
    ]
    for (const [damage, count] of cases) assert.equal(follow(damage), count)
    assert.ok(follow((bytes) => bytes.writeUInt32BE(first, (first - 1) * 4096)) > 250) // round and round, until it has counted what was asked for
  }))
