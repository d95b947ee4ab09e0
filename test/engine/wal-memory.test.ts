/** The -wal file in the page cache: what was dropped from there is brought back. */
import assert from 'node:assert/strict'
import { readFileSync, statSync } from 'node:fs'
import { test } from 'node:test'
import { Maintenance, Volume, createVolumeFile } from '../../src/engine/index.ts'
import { assertClean, makeFile, seededBytes, withFolder } from '../support.ts'
import { cached, drop } from './page-cache.ts'
import { join } from 'node:path'

/** Whether one of some looks says so: each goes by the time that a read takes, which on a busy machine may be any. */
const isSoon = (look: () => boolean): boolean => Array.from({ length: 20 }).some(look)

test('a WAL that the page cache let go of is brought back, and not a byte of it changes', () =>
  withFolder((folder) => {
    const file = join(folder, 'v.sqlite')
    createVolumeFile(file)
    const volume = Volume.open(file)
    const maintenance = new Maintenance(file)
    for (let i = 0; i < 8; i++) makeFile(volume, volume.root, `f${String(i)}`, seededBytes(i, 1 << 20))
    maintenance.checkpoint()
    const wal = `${file}-wal`
    const before = readFileSync(wal)
    assert.ok(before.length > 8 << 20)
    maintenance.bringWalIntoMemory(10_000)
    assert.ok(cached(wal) >= before.length)
    assert.ok(isSoon(() => maintenance.isWalInMemory(10_000)))
    drop(wal)
    assert.ok(isSoon(() => { maintenance.bringWalIntoMemory(10_000); return cached(wal) >= before.length }), `${String(cached(wal))} of ${String(before.length)} bytes`) // prettier-ignore
    assert.ok(readFileSync(wal).equals(before))
    maintenance.truncateWal()
    assert.equal(statSync(wal).size, 0)
    maintenance.bringWalIntoMemory(10_000)
    assert.ok(maintenance.isWalInMemory(10_000)) // of nothing, nothing is missing
    maintenance.close()
    volume.close()
    assertClean(file)
  }))
