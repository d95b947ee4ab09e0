/** When the rows of removed files go: many small ones together, a large one at once, none that has a name again. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Ino } from '../../src/base/index.ts'
import type { Volume } from '../../src/engine/index.ts'
import { Orphans } from '../../src/mount/orphans.ts'
import { makeFile, withVolume } from '../support.ts'

function orphansOf(volume: Volume): Orphans {
  return new Orphans(volume, (error) => {
    throw error
  })
}

/** Makes a file, removes its name and lets go of it. */
function drop(volume: Volume, orphans: Orphans, name: string, content: Buffer | string): Ino {
  const ino = makeFile(volume, volume.root, name, content)
  volume.unlink(volume.root, Buffer.from(name))
  orphans.addUnlinked(ino)
  orphans.release(ino)
  return ino
}

test('small ones wait for each other, and for whoever asks', () =>
  withVolume((volume) => {
    const orphans = orphansOf(volume)
    for (let n = 1; n < 32; n++) drop(volume, orphans, `f${String(n)}`, 'content')
    assert.equal(volume.orphans().length, 31)
    drop(volume, orphans, 'f32', 'content')
    assert.deepEqual([volume.orphans(), orphans.list()], [[], []])
    const last = drop(volume, orphans, 'last', 'content')
    assert.deepEqual(volume.orphans(), [last])
    orphans.collect()
    assert.deepEqual([volume.orphans(), orphans.has(last), orphans.isUnlinked(last)], [[], false, false])
  }))

test('what holds more than a little goes at once, and those that waited with it', () =>
  withVolume((volume) => {
    const orphans = orphansOf(volume)
    drop(volume, orphans, 'small', 'content')
    drop(volume, orphans, 'large', Buffer.alloc((1 << 20) + 1, 'x'))
    assert.deepEqual(volume.orphans(), [])
  }))

test('one that was made without a name and got one stays', () =>
  withVolume((volume) => {
    const orphans = orphansOf(volume)
    const { ino } = volume.createUnnamed(volume.root, { uid: 0, gid: 0, mode: 0o100644 })
    orphans.addUnnamed(ino)
    assert.deepEqual([orphans.has(ino), orphans.isUnlinked(ino)], [true, false])
    volume.link(ino, volume.root, Buffer.from('named'))
    orphans.delete(ino)
    assert.equal(orphans.has(ino), false)
    orphans.collect()
    assert.equal(volume.get(ino).nlink, 1)
  }))
