import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, openSync, readFileSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import { ErrnoError, type Ino } from '../../src/base/index.ts'
import {
  Maintenance,
  Owner,
  Volume,
  applicationId,
  assertLength,
  checkVolume,
  createVolumeFile,
  pageSize,
  readVolumeState,
  settleVolumeFile,
} from '../../src/engine/index.ts'
import { assertClean, assertErrno, crash, makeFile, readAll, seededBytes, seededNumbers, withFile, withFolder } from '../support.ts'
import { makeOlder, olderVersions, wholeVersions } from './older-versions.ts'

test('a new volume file carries its ids, its root, and no file beside it', () =>
  withFile((file) => {
    const header = readFileSync(file).subarray(0, 100)
    assert.equal(header.subarray(0, 15).toString(), 'SQLite format 3')
    assert.deepEqual([header.readUInt32BE(68), header.readUInt32BE(60), header.readUInt16BE(16)], [applicationId, 4, 4096])
    const volume = Volume.open(file)
    const { uid, gid, mode } = volume.get(volume.root)
    volume.close()
    assert.deepEqual([uid, gid, mode], [7, 8, 0o040700])
    assert.equal(existsSync(`${file}-wal`), false)
    assert.equal(statSync(file).mode & 0o777, 0o600)
  }))

test('a file with the larger pages of an earlier build is served, snapshot and all, and keeps them', () =>
  withFile((file) => {
    const earlier = new Database(file)
    earlier.pragma('journal_mode = DELETE')
    earlier.pragma('page_size = 8192')
    earlier.exec('VACUUM')
    earlier.close()
    const volume = Volume.open(file)
    const maintenance = new Maintenance(file)
    const content = seededBytes(1, 300_000)
    const ino = makeFile(volume, volume.root, 'f', content)
    const snapshot = maintenance.acquireSnapshot()
    assert.equal(snapshot.pageSize, 8192)
    assert.ok(snapshot.pageCount * 8192 > content.length)
    snapshot.release()
    assert.deepEqual(readAll(volume, ino), content)
    maintenance.close()
    volume.close()
    assert.equal(readFileSync(file).readUInt16BE(16), 8192)
    assertClean(file)
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

test('what is longer or shorter than its header says is found with the byte, and stays as it is; with a WAL the WAL decides', () =>
  withFile((file) => {
    const whole = readFileSync(file)
    for (const wrong of [whole.length + pageSize, whole.length - pageSize, whole.length + 1]) {
      truncateSync(file, wrong)
      const before = readFileSync(file)
      const error = assertErrno('EIO', () => {
        assertLength(file)
      })
      assert.ok(error.message.includes(`byte ${String(Math.min(whole.length, wrong))}`), error.message)
      assert.ok(readFileSync(file).equals(before) && !existsSync(`${file}-wal`))
      writeFileSync(file, whole)
    }
    crash(file, "volume.create(volume.root, Buffer.from('new'), { uid: 0, gid: 0, mode: 0o100644 })")
    truncateSync(file, whole.length + pageSize) // as a checkpoint that was killed may leave it
    assertLength(file)
    Volume.open(file).close()
    assertClean(file)
  }))

for (const version of olderVersions) {
  test(`a volume of version ${String(version)} is brought to this one: its change token stays, the name of its bytes moves`, () =>
    withFile((file) => {
      const first = Volume.open(file)
      makeFile(first, first.root, 'a', 'old')
      first.close()
      makeOlder(file, version)
      assert.deepEqual(checkVolume(file, { deep: true }), [])
      const before = readVolumeState(file)
      Volume.open(file).close()
      const after = readVolumeState(file)
      assert.deepEqual({ change: after.change, mtime: after.mtime }, { change: before.change, mtime: before.mtime })
      assert.notEqual(after.bytesTag, before.bytesTag)
      assert.deepEqual(checkVolume(file, { deep: true }), [])
    }))

  test(`what version ${String(version)} has stored is read at any place, shared, written over and removed`, () =>
    withFile((file) => {
      const contents = [1, 4096, 16_384, 16_385, 131_072, 400_000].map((length, seed) => seededBytes(seed, length))
      const older = Volume.open(file)
      const inos = contents.map((content, i) => makeFile(older, older.root, `f${String(i)}`, content))
      older.close()
      makeOlder(file, version)
      const volume = Volume.open(file)
      const random = seededNumbers(version)
      for (let round = 0; round < 300; round++) {
        const i = random() % contents.length
        const content = contents[i] ?? Buffer.alloc(0)
        const [start, length] = [random() % content.length, 1 + (random() % 50_000)]
        const into = Buffer.alloc(Math.min(length, content.length - start))
        assert.equal(volume.read(inos[i] as Ino, start, into), into.length)
        assert.ok(into.equals(content.subarray(start, start + into.length)), `${String(i)} at ${String(start)}`)
      }
      contents.push(...contents)
      inos.push(...contents.slice(0, 6).map((content, i) => makeFile(volume, volume.root, `g${String(i)}`, content)))
      const writing = { keepTimes: false, killPrivileges: false }
      volume.write(inos[4] as Ino, 70_000, Buffer.from('new'), writing)
      contents[4] = Buffer.from(contents[4] ?? '')
      contents[4].write('new', 70_000)
      for (const [i, content] of contents.entries()) assert.ok(readAll(volume, inos[i] as Ino).equals(content), String(i))
      for (const name of ['f1', 'f5', 'g1', 'g5']) volume.unlink(volume.root, Buffer.from(name))
      volume.close()
      assert.deepEqual(checkVolume(file, { deep: true }), [])
    }))
}

for (const version of wholeVersions) {
  test(`content of version ${String(version)} that has changed on the disk is EIO and names its chunk, never wrong bytes`, () =>
    withFile((file) => {
      const volume = Volume.open(file)
      const ino = makeFile(volume, volume.root, 'a', 'content')
      volume.close()
      makeOlder(file, version)
      new Database(file).exec("UPDATE chunk_data SET data = CAST('c0ntent' AS BLOB)").close()
      assertDamaged(file, ino)
    }))
}

test('what is prefetched is read as before: pieces, chunks of older versions, holes, what lies behind the end', () =>
  withFile((file) => {
    const older = Volume.open(file)
    const contents = [seededBytes(1, 300_000), seededBytes(2, 300_000)]
    const inos = [makeFile(older, older.root, 'a', contents[0])]
    older.close()
    makeOlder(file, 2)
    const volume = Volume.open(file)
    inos.push(makeFile(volume, volume.root, 'b', contents[1]))
    volume.write(inos[1] as Ino, 2_000_000, Buffer.from('end'), { keepTimes: false, killPrivileges: false })
    const maintenance = new Maintenance(file)
    const before = maintenance.state()
    for (const ino of inos) for (let at = 0; at < 4_000_000; at += 1_000_000) maintenance.prefetch(ino, at, 1_000_000)
    assert.deepEqual(maintenance.state(), before)
    for (const [i, ino] of inos.entries()) {
      const read = readAll(volume, ino).subarray(0, 300_000)
      assert.ok(read.equals(contents[i] ?? Buffer.alloc(0)))
    }
    maintenance.close()
    volume.close()
    assertClean(file)
  }))

const damages: readonly (readonly [what: string, sql: string])[] = [
  ['has changed', "UPDATE pieces SET data = CAST(x'00' || substr(data, 2) AS BLOB) WHERE id = 9"],
  ['is too short', 'UPDATE pieces SET data = substr(data, 1, 10) WHERE id = 9'],
  ['is missing', 'DELETE FROM pieces WHERE id = 9'],
  ['is a shorter one', 'DELETE FROM pieces WHERE id = 9; UPDATE pieces SET id = 9 WHERE id = 14'],
  [
    'stands in the place of another',
    'UPDATE pieces SET id = id + 100 WHERE id IN (9, 10); UPDATE pieces SET id = 119 - id WHERE id IN (109, 110)',
  ],
  ['has an unknown codec', 'UPDATE pieces SET codec = 7 WHERE id = 9'],
]
for (const [what, sql] of damages) {
  test(`a piece that ${what} is EIO and names its chunk, never wrong bytes; what is before it is read`, () =>
    withFile((file) => {
      const volume = Volume.open(file)
      const content = seededBytes(1, 100_000)
      const ino = makeFile(volume, volume.root, 'a', content)
      volume.close()
      new Database(file).exec(sql).close()
      assertDamaged(file, ino, 20_000)
      const again = Volume.open(file)
      const into = Buffer.alloc(16_384)
      again.read(ino, 0, into)
      again.close()
      assert.ok(into.equals(content.subarray(0, 16_384)))
    }))
}

/** A read of one byte at `offset`, and of everything, is refused; the deep check finds it. */
function assertDamaged(file: string, ino: Ino, offset = 0): void {
  const volume = Volume.open(file)
  for (const [start, length] of [
    [0, 100_000],
    [offset, 1],
  ] as const) {
    // prettier-ignore
    const error = assertErrno('EIO', () => volume.read(ino, start, Buffer.alloc(length)))
    assert.match(error.message, /^chunk 1: /)
  }
  volume.close()
  assert.ok(checkVolume(file, { deep: true }).length > 0)
}

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

test('a flipped byte in a chunk is found by the deep check', () =>
  withFile((file) => {
    const volume = Volume.open(file)
    makeFile(volume, volume.root, 'a', Buffer.alloc(100_000, 0x5a))
    volume.close()
    const at = readFileSync(file).indexOf(Buffer.alloc(4000, 0x5a)) // an overflow page: in leaves bytes of moved rows may be left
    writeSync(openSync(file, 'r+'), Buffer.from([0x5b]), 0, 1, at + 32)
    assert.deepEqual(checkVolume(file), [])
    assert.equal(checkVolume(file, { deep: true }).length, 1)
  }))
