/** Disk space for the WAL before it is written: that it is there, that nothing else changes, that it is given back, and where it is not asked for. */
import assert from 'node:assert/strict'
import { readFileSync, statSync, statfsSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { WalAllocation, ext4 } from '../../src/mount/wal-allocation.ts'
import { seededBytes, until, withFolder } from '../support.ts'
import { shell, withSmallDisk } from './support.ts'

const MIB = 2 ** 20
const allocated = (file: string): number => statSync(file).blocks * 512

test('the disk finds room behind the end of a WAL, once; neither its bytes nor its length change; cut off, it is free again', (t) =>
  withFolder(async (folder) => {
    if (statfsSync(folder).type !== ext4) {
      t.skip('the folder for tests is not on ext4, where alone this is done')
      return
    }
    const wal = join(folder, 'v.sqlite-wal')
    const content = seededBytes(1, 3 * MIB + 5)
    writeFileSync(wal, content)
    const allocation = new WalAllocation(wal)
    allocation.extend(MIB)
    assert.ok(allocated(wal) < 4 * MIB, 'it has more already')
    allocation.extend(100 * MIB)
    await until('there is room', () => allocated(wal) >= 100 * MIB)
    allocation.extend(100 * MIB)
    assert.ok(allocated(wal) < 101 * MIB)
    assert.ok(readFileSync(wal).equals(content))
    truncateSync(wal, 0)
    truncateSync(wal, 60 * MIB)
    allocation.extend(50 * MIB) // a hole in front, where the file was emptied while it grew, is no reason to ask
    truncateSync(wal, 0)
    assert.equal(allocated(wal), 0)
    writeFileSync(wal, content)
    await until('it is asked for again', () => {
      allocation.extend(50 * MIB)
      return allocated(wal) >= 50 * MIB
    })
    assert.ok(readFileSync(wal).equals(content))
  }))

test('where it would take memory none is asked for, and a WAL that is gone is said', () =>
  withSmallDisk('64m', async (disk) => {
    const wal = join(disk, 'v.sqlite-wal')
    assert.throws(() => {
      new WalAllocation(wal).extend(MIB)
    }, /ENOENT/)
    writeFileSync(wal, 'x')
    const allocation = new WalAllocation(wal)
    allocation.extend(32 * MIB)
    allocation.extend(32 * MIB)
    assert.equal(await shell('pgrep -x -P "$1" fallocate || true', String(process.pid)), '')
    assert.ok(allocated(wal) <= 4096)
  }))
