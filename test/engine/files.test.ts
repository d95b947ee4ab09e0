import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, openSync, readFileSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import { ErrnoError, S_IFLNK } from '../../src/base/index.ts'
import { Owner, Volume, applicationId, checkVolume, createVolumeFile, readVolumeState, settleVolumeFile } from '../../src/engine/index.ts'
import { assertClean, assertErrno, makeDirectory, makeFile, readAll, seededBytes, withFile, withFolder } from '../support.ts'

test('a new volume file carries its ids, its root, and no file beside it', () =>
  withFile((file) => {
    const header = readFileSync(file).subarray(0, 100)
    assert.equal(header.subarray(0, 15).toString(), 'SQLite format 3')
    assert.deepEqual([header.readUInt32BE(68), header.readUInt32BE(60), header.readUInt16BE(16)], [applicationId, 2, 8192])
    const volume = Volume.open(file)
    const { uid, gid, mode } = volume.get(volume.root)
    volume.close()
    assert.deepEqual([uid, gid, mode], [7, 8, 0o040700])
    assert.equal(existsSync(`${file}-wal`), false)
    assert.equal(statSync(file).mode & 0o777, 0o600)
  }))

test('making a volume over a file is EEXIST and leaves the file alone', () =>
  withFolder((folder) => {
    const file = join(folder, 'f')
    writeFileSync(file, 'mine')
    assertErrno('EEXIST', () => {
      createVolumeFile(file)
    })
    assert.equal(readFileSync(file, 'utf8'), 'mine')
    assertErrno('ENOENT', () => {
      createVolumeFile(join(folder, 'none', 'f'))
    })
  }))

test('what is no volume is refused by name: another SQLite file, no SQLite, a cut one, a newer one, one that is missing', () =>
  withFile((file, folder) => {
    const other = join(folder, 'other.sqlite')
    new Database(other).exec('CREATE TABLE t (a)').close()
    const text = join(folder, 'text')
    writeFileSync(text, 'x'.repeat(5000))
    const cut = join(folder, 'cut')
    copyFileSync(file, cut)
    truncateSync(cut, 10_000)
    const newer = join(folder, 'newer')
    copyFileSync(file, newer)
    new Database(newer).exec('PRAGMA user_version = 99').close()
    for (const bad of [other, text, cut, newer]) {
      const error = assertErrno('EIO', () => {
        Volume.open(bad).close()
      })
      assert.ok(error.message.includes(bad), error.message)
    }
    assertErrno('ENOENT', () => Volume.open(join(folder, 'none')))
    assertErrno('ENOENT', () => readVolumeState(join(folder, 'none')))
    assertErrno('EINVAL', () => Volume.open(`${file} `))
  }))

test('a volume of version 1 is brought to this one: its change token stays, the name of its bytes moves', () =>
  withFile((file) => {
    const downgrade = ['connection', 'request', 'request_ino'].map((column) => `ALTER TABLE state DROP COLUMN ${column};`).join(' ')
    new Database(file).exec(`${downgrade} PRAGMA user_version = 1`).close()
    const before = readVolumeState(file)
    Volume.open(file).close()
    const after = readVolumeState(file)
    assert.deepEqual({ change: after.change, mtime: after.mtime }, { change: before.change, mtime: before.mtime })
    assert.notEqual(after.bytesTag, before.bytesTag)
    assert.deepEqual(checkVolume(file), [])
  }))

test('settling recovers what a killed process had committed, and collects its orphans', () =>
  withFile(async (file) => {
    const code = `
      import { Volume } from ${JSON.stringify(new URL('../../src/engine/index.ts', import.meta.url).href)}
      const volume = Volume.open(${JSON.stringify(file)})
      const options = { uid: 0, gid: 0, mode: 0o100644 }
      for (const name of ['kept', 'gone']) {
        const { ino } = volume.create(volume.root, Buffer.from(name), options)
        volume.write(ino, 0, Buffer.from(name), { keepTimes: false, killPrivileges: false })
      }
      volume.unlink(volume.root, Buffer.from('gone'))
      process.kill(process.pid, 'SIGKILL')`
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['ignore', 'inherit', 'inherit'] })
    const [, signal] = (await once(child, 'exit')) as [number | null, string | null]
    assert.equal(signal, 'SIGKILL')
    assert.ok(statSync(`${file}-wal`).size > 0)
    await settleVolumeFile(file, { ownerTimeoutMs: 1000 })
    assert.equal(existsSync(`${file}-wal`), false)
    const volume = Volume.open(file)
    const kept = volume.lookup(volume.root, Buffer.from('kept'))
    assert.equal(kept === undefined ? '' : readAll(volume, kept.ino).toString(), 'kept')
    assert.equal(volume.room().inodes, 2)
    volume.close()
    assertClean(file)
  }))

test('a file has one owner; another opener waits for it, then is told who holds it; a copy is free', () =>
  withFile(async (file, folder) => {
    const first = await Owner.acquire(file, 0)
    await assert.rejects(
      Owner.acquire(file, 100),
      (error) => error instanceof ErrnoError && error.code === 'EBUSY' && error.problem === 'held',
    )
    const copy = join(folder, 'copy')
    copyFileSync(file, copy)
    const other = await Owner.acquire(copy, 0)
    other.release()
    const waiting = Owner.acquire(file, 10_000)
    first.release()
    const second = await waiting
    second.release()
  }))

test('check names each kind of damage', () =>
  withFile((file) => {
    const volume = Volume.open(file)
    const a = makeFile(volume, volume.root, 'a', seededBytes(1, 200_000))
    const e = makeDirectory(volume, makeDirectory(volume, volume.root, 'd'), 'e')
    const link = volume.create(volume.root, Buffer.from('l'), { uid: 0, gid: 0, mode: S_IFLNK | 0o777, target: Buffer.from('t') })
    volume.setXattr(a, Buffer.from('user.x'), Buffer.from('1'), 0)
    volume.close()
    assert.deepEqual([a, e, link.ino], [3, 5, 6])
    assert.deepEqual(checkVolume(file, { deep: true }), [])
    const damages: readonly (readonly [sql: string, rule: string])[] = [
      ['UPDATE inodes SET nlink = 5 WHERE ino = 3', 'nlink of a file counts its entries'],
      ['UPDATE chunks SET refs = refs + 1 WHERE id = 1', 'refs counts the extents of a chunk'],
      ['DELETE FROM chunk_data WHERE id = 1', 'a chunk has its data'],
      ['UPDATE extents SET length = length + 1', 'an extent lies within its chunk'],
      ['UPDATE inodes SET size = 10 WHERE ino = 3', 'an extent lies within its file'],
      ['DELETE FROM inodes WHERE ino = 3', 'an entry names an inode that exists'],
      ['UPDATE dentries SET parent = 3 WHERE ino = 5', 'an entry lies in a directory that has a name'],
      ['UPDATE dentries SET type = 4 WHERE ino = 3', 'an entry has the type of its inode'],
      ['UPDATE inodes SET nlink = 3 WHERE ino = 5', 'nlink of a directory is 2 and its subdirectories'],
      ['DELETE FROM dentries WHERE ino = 5', 'a directory has one entry, in its parent'],
      ['UPDATE inodes SET nlink = 0 WHERE ino = 3', 'an inode without names is an orphan'],
      ['INSERT INTO orphans VALUES (3)', 'an orphan is an inode without names'],
      ['UPDATE state SET next_ino = 6', 'an inode number is below the next one'],
      ['UPDATE state SET inodes = 6', 'state counts the inodes'],
      ['UPDATE extents SET ino = 99 WHERE offset = 0', 'an extent belongs to an inode'],
      ['UPDATE extents SET offset = 131071, length = 2 WHERE offset = 0', 'an extent lies within a block'],
      ['UPDATE extents SET offset = 1 WHERE offset = 131072', 'extents do not overlap'],
      ['UPDATE inodes SET stored = 5 WHERE ino = 3', 'stored counts the bytes of the extents'],
      ['UPDATE inodes SET target = NULL WHERE ino = 6', 'a symlink has a target'],
      ['DELETE FROM state', 'there is one state'],
      ['DELETE FROM volumes', 'there is a volume'],
      ['UPDATE volumes SET root = 3', 'the root of a volume is a directory, its own parent'],
      ['UPDATE inodes SET volume = 2 WHERE ino = 3', 'an inode belongs to a volume'],
      ['UPDATE inodes SET mode = 420 WHERE ino = 3', 'a mode is a type and permissions'],
      ['UPDATE inodes SET rdev = 1 WHERE ino = 3', 'only a device has a device number'],
      ['UPDATE inodes SET size = 17592186044417 WHERE ino = 3', 'a size is that of its type'],
      ['UPDATE inodes SET size = 2 WHERE ino = 6', 'a size is that of its type'],
      ['UPDATE inodes SET mtime_nsec = 1000000000 WHERE ino = 3', 'a time has less than a second of nanoseconds'],
      ['INSERT INTO dentries VALUES (2, 99, x\'7a\', 5, 4)', 'a directory has no second entry'],
      ['UPDATE dentries SET parent = 5 WHERE ino = 4; UPDATE inodes SET parent = 5, nlink = 3 WHERE ino = 4; UPDATE inodes SET nlink = 3 WHERE ino = 5; UPDATE inodes SET nlink = 2 WHERE ino = 2', 'a directory is reached from a root'],
      ['UPDATE dentries SET name = x\'612f62\' WHERE ino = 3', 'a name has 1 to 255 bytes, no NUL, no slash, and is not . or ..'],
      ['UPDATE dentries SET cookie = 2 WHERE ino = 3', 'a cookie is 3 or more'],
      ['UPDATE extents SET ino = 6 WHERE offset = 0', 'an extent belongs to a regular file'],
      ['UPDATE chunks SET size = size + 1 WHERE id = 1', 'a chunk has 1 to 131072 bytes and an address of 32'],
      ['UPDATE xattrs SET value = zeroblob(65537)', 'an attribute has a name of 1 to 255 bytes and a value of at most 65536'],
      ['INSERT INTO xattrs VALUES (99, x\'61\', x\'62\')', 'an attribute belongs to an inode'],
      ['UPDATE chunk_data SET data = zeroblob(length(data)) WHERE id = 1', 'a chunk has the content that its address names'],
    ] // prettier-ignore
    for (const [sql, rule] of damages) {
      const copy = `${file}.damaged`
      copyFileSync(file, copy)
      new Database(copy).exec(sql).close()
      const rules = checkVolume(copy, { deep: true }).map((finding) => finding.rule)
      assert.ok(rules.includes(rule), `${sql}: ${rules.join(', ')}`)
    }
  }))

test('a flipped byte in a chunk is found by the deep check', () =>
  withFile((file) => {
    const volume = Volume.open(file)
    makeFile(volume, volume.root, 'a', Buffer.alloc(100_000, 0x5a))
    volume.close()
    const at = readFileSync(file).indexOf(Buffer.alloc(64, 0x5a))
    writeSync(openSync(file, 'r+'), Buffer.from([0x5b]), 0, 1, at + 32)
    assert.deepEqual(checkVolume(file), [])
    assert.equal(checkVolume(file, { deep: true }).length, 1)
  }))
