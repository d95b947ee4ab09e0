/** Extended attributes where there are none at first: what is known of that is true after each change, a failed one too. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { ErrnoError } from '../../src/base/index.ts'
import { Volume, createVolumeFile } from '../../src/engine/index.ts'
import { assertClean, withFolder } from '../support.ts'

const name = Buffer.from('user.a')
const isMissing = (error: unknown): boolean => error instanceof ErrnoError && error.code === 'ENODATA'

test('the first attribute of a volume is seen once it is set, and not when its transaction failed', () =>
  withFolder((folder) => {
    const file = join(folder, 'v.sqlite')
    createVolumeFile(file)
    let fails = false
    const beforeCommit = (): void => {
      if (fails) throw new ErrnoError('EIO', 'as the test wants it')
    }
    const volume = Volume.open(file, { beforeCommit })
    const { root } = volume
    assert.throws(() => volume.getXattr(root, name), isMissing)
    assert.throws(() => {
      volume.removeXattr(root, name)
    }, isMissing)
    assert.deepEqual(volume.xattrNames(root), [])
    fails = true
    assert.throws(() => {
      volume.setXattr(root, name, Buffer.from('1'), 0)
    }, /as the test wants it/)
    fails = false
    assert.throws(() => volume.getXattr(root, name), isMissing)
    volume.setXattr(root, name, Buffer.from('2'), 0)
    assert.equal(volume.getXattr(root, name).toString(), '2')
    assert.deepEqual(volume.xattrNames(root), [name])
    fails = true
    assert.throws(() => {
      volume.removeXattr(root, name)
    }, /as the test wants it/)
    fails = false
    assert.equal(volume.getXattr(root, name).toString(), '2')
    volume.close()
    const again = Volume.open(file)
    assert.equal(again.getXattr(root, name).toString(), '2')
    again.removeXattr(root, name)
    assert.throws(() => again.getXattr(root, name), isMissing)
    again.close()
    assertClean(file)
  }))

test('a successor sees what was set while it stood by, and removes it with its file', () =>
  withFolder((folder) => {
    const file = join(folder, 'v.sqlite')
    createVolumeFile(file)
    const first = Volume.open(file)
    const second = Volume.standBy(file, {})
    const { ino } = first.create(first.root, Buffer.from('file'), { uid: 0, gid: 0, mode: 0o100644 })
    first.setXattr(ino, name, Buffer.from('1'), 0)
    second.resume()
    assert.equal(second.getXattr(ino, name).toString(), '1')
    second.unlink(second.root, Buffer.from('file'))
    second.collect([ino])
    second.close()
    first.close()
    assertClean(file)
  }))
