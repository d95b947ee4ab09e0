import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import { S_IFLNK, S_IFREG } from '../../src/base/index.ts'
import { rules } from '../../src/engine/check-rules.ts'
import { pageSize } from '../../src/engine/schema.ts'
import { Volume, checkVolume, createVolumeFile, type CheckProgress } from '../../src/engine/index.ts'
import { assertClean, assertErrno, crash, makeDirectory, makeFile, seededBytes, withFolder } from '../support.ts'

/** A volume with ino 3 /dir, 4 /dir/file (2 extents), 5 /link, 6 /dir/sub, 7 gone. */
const withFile = (work: (file: string, folder: string) => void | Promise<void>): Promise<void> =>
  withFolder(async (folder) => {
    const file = join(folder, 'volume.sqlite')
    createVolumeFile(file)
    const volume = Volume.open(file)
    const dir = makeDirectory(volume, volume.root, 'dir')
    const ino = makeFile(volume, dir, 'file', seededBytes(1, 200_000))
    volume.setXattr(ino, Buffer.from('user.a'), Buffer.from('1'), 0)
    volume.create(volume.root, Buffer.from('link'), { uid: 0, gid: 0, mode: S_IFLNK | 0o777, target: Buffer.from('dir/file') })
    makeDirectory(volume, dir, 'sub')
    volume.close()
    assertClean(file)
    await work(file, folder)
  })

/** A damaged copy of `file`. */
function damage(file: string, sql: string): string {
  const copy = `${file}.damaged`
  copyFileSync(file, copy)
  const connection = new Database(copy)
  connection.unsafeMode(true)
  connection.exec(sql).close()
  return copy
}

/** Everything about the files of a folder that a check might change. */
function picture(folder: string): unknown[] {
  return [folder, ...readdirSync(folder).map((name) => join(folder, name))].map((path) => {
    const { mtimeMs, ctimeMs, size, isFile } = { ...statSync(path), isFile: statSync(path).isFile() }
    return isFile ? [path, mtimeMs, ctimeMs, size, readFileSync(path).toString('base64')] : [path]
  })
}

/** Rule → what breaks it, and the place that must be named. */
const damages: Readonly<Record<string, readonly [sql: string, place: RegExp]>> = {
  'there is one state': ['DELETE FROM state', /^table state$/],
  'there is a volume': ['DELETE FROM volumes', /^table volumes$/],
  'state counts the inodes': ['UPDATE state SET inodes = 77', /^table state: inodes is {2}77$/],
  'the epoch has 8 bytes': ["UPDATE state SET epoch = x'00'", /^table state$/],
  'the root of a volume is a directory, its own parent': ['UPDATE volumes SET root = 4', /^inode 4 \(/],
  'an inode belongs to a volume': ['UPDATE inodes SET volume = 9 WHERE ino = 4', /^inode 4 \(\/dir\/file\)$/],
  'numbers of an inode are in their ranges': ['UPDATE inodes SET uid = -1 WHERE ino = 4', /^inode 4 \(\/dir\/file\)$/],
  'a mode is a type and permissions': ['UPDATE inodes SET mode = 420 WHERE ino = 4', /^inode 4 \(\/dir\/file\)$/],
  'only a device has a device number': ['UPDATE inodes SET rdev = 1 WHERE ino = 4', /^inode 4 \(\/dir\/file\)$/],
  'a size is that of its type': ['UPDATE inodes SET size = 17592186044417 WHERE ino = 4', /^inode 4 \(\/dir\/file\)$/],
  'a time has less than a second of nanoseconds': ['UPDATE inodes SET mtime_nsec = 1000000000 WHERE ino = 4', /^inode 4 \(\/dir\/file\)$/],
  'nlink of a file counts its entries': ['UPDATE inodes SET nlink = 5 WHERE ino = 4', /^inode 4 \(\/dir\/file\)$/],
  'nlink of a directory is 2 and its subdirectories': ['UPDATE inodes SET nlink = 7 WHERE ino = 2', /^inode 2 \(\/\)$/],
  'a directory has one entry, in its parent': ['UPDATE inodes SET parent = 2 WHERE ino = 6', /^inode 6 \(\/dir\/sub\)$/],
  'a directory has no second entry': ["INSERT INTO dentries VALUES (6, 3, 'x', 3, 4)", /^inode 3 \(\/dir\)$/],
  'the root has no entry': ["INSERT INTO dentries VALUES (6, 3, 'x', 2, 4)", /^inode 2 \(\/\)$/],
  'a directory is reached from a root': ["DELETE FROM dentries WHERE ino = 3; INSERT INTO dentries VALUES (6, 3, 'ring', 3, 4); UPDATE inodes SET parent = 6 WHERE ino = 3", /^inode 3 \(without a path\)$/],
  'an inode without names is an orphan': ['UPDATE inodes SET nlink = 0 WHERE ino = 4', /^inode 4 \(\/dir\/file\)$/],
  'an orphan is an inode without names': ['INSERT INTO orphans VALUES (4)', /^inode 4 \(\/dir\/file\)$/],
  'an inode number is below the next one': ['UPDATE state SET next_ino = 6', /^inode 6 \(\/dir\/sub\)$/],
  'an extent belongs to a regular file': ['UPDATE extents SET ino = 3 WHERE ino = 4', /^inode 3 \(\/dir\)$/],
  'an extent lies within its chunk': ['UPDATE extents SET length = length + 1 WHERE offset > 0', /^inode 4 \(\/dir\/file\)$/],
  'an extent lies within a block': ['UPDATE extents SET offset = 5 WHERE offset = 0', /^inode 4 \(\/dir\/file\)$/],
  'an extent lies within its file': ['UPDATE inodes SET size = 10 WHERE ino = 4', /^inode 4 \(\/dir\/file\)$/],
  'extents do not overlap': ['UPDATE extents SET offset = 131071 WHERE offset > 0', /^inode 4 \(\/dir\/file\)$/],
  'stored counts the bytes of the extents': ['UPDATE inodes SET stored = 1 WHERE ino = 4', /^inode 4 \(\/dir\/file\)$/],
  'an attribute belongs to an inode': ["INSERT INTO xattrs VALUES (99, x'61', x'62')", /^inode 99 \(without a path\)$/],
  'an attribute has a name of 1 to 255 bytes and a value of at most 65536': ['UPDATE xattrs SET value = zeroblob(65537)', /^inode 4 \(\/dir\/file\)$/],
  'a symlink has a target': ['UPDATE inodes SET target = NULL WHERE ino = 5', /^inode 5 \(\/link\)$/],
  'a target has no NUL': ["UPDATE inodes SET target = x'6100', size = 2 WHERE ino = 5", /^inode 5 \(\/link\)$/],
  'an entry names an inode that exists': ['DELETE FROM inodes WHERE ino = 4', /^entry \/dir\/file$/],
  'an entry lies in a directory that has a name': ['UPDATE dentries SET parent = 5 WHERE ino = 6', /^entry \/link\/sub$/],
  'an entry has the type of its inode': ['UPDATE dentries SET type = 10 WHERE ino = 4', /^entry \/dir\/file$/],
  'a name has 1 to 255 bytes, no NUL, no slash, and is not . or ..': ["UPDATE dentries SET name = x'612f62ff' WHERE ino = 4", /^entry \/dir\/a\/b\\xff$/],
  'a cookie is 3 or more': ['UPDATE dentries SET cookie = 1 WHERE ino = 4', /^entry \/dir\/file$/],
  'refs counts the extents of a chunk': ['UPDATE chunks SET refs = refs + 1 WHERE id = 1', /^chunk 1 \(\/dir\/file\)$/],
  'a chunk has its data': ['DELETE FROM pieces WHERE id / 8 = 2', /^chunk 2 \(\/dir\/file\)$/],
  'a chunk has its data in pieces or whole': ["INSERT INTO chunk_data VALUES (2, 0, x'00')", /^chunk 2 \(\/dir\/file\)$/],
  'the pieces of a chunk are all there': ['DELETE FROM pieces WHERE id = 18', /^chunk 2 \(\/dir\/file\)$/],
  'a piece has the bytes of its place': ['UPDATE pieces SET data = zeroblob(16385) WHERE id = 17', /^chunk 2 \(\/dir\/file\)$/],
  'a chunk has 1 to 131072 bytes and an address of 32, or of 8: its id': ["UPDATE chunks SET address = x'00' WHERE id = 2", /^chunk 2 \(\/dir\/file\)$/],
  'stored bytes are those of one chunk': ['INSERT INTO chunk_data VALUES (2, 0, zeroblob(300000))', /^chunk 2 \(\/dir\/file\)$/],
} // prettier-ignore

test('every rule finds what breaks it, with its place', () =>
  withFile((file) => {
    assert.deepEqual(Object.keys(damages).sort(), rules.map(({ rule }) => rule).sort()) // prettier-ignore
    for (const [rule, [sql, place]] of Object.entries(damages)) {
      const findings = checkVolume(damage(file, `${sql.replaceAll("'x'", "x'78'").replaceAll("'ring'", "x'72'")}`))
      const found = findings.filter((finding) => finding.rule === rule)
      assert.ok(found.some((finding) => place.test(finding.place)), `${rule}: ${JSON.stringify(findings)}`) // prettier-ignore
    }
  }))

test('a chunk with other bytes is found by the deep check, with every file it is part of', () =>
  withFile((file) => {
    const volume = Volume.open(file)
    makeFile(volume, volume.root, 'same', seededBytes(1, 200_000))
    volume.close()
    const copy = damage(file, 'UPDATE pieces SET data = zeroblob(length(data)) WHERE id = 11')
    assert.deepEqual(checkVolume(copy), [])
    const expected = { rule: 'a chunk has the content that its address names', place: 'chunk 1 (/dir/file, /same)' }
    assert.deepEqual(checkVolume(copy, { deep: true }), [expected])
  }))

test('many places of one rule are cut, and it says so', () =>
  withFile((file) => {
    const volume = Volume.open(file)
    for (let i = 0; i < 50; i++) makeFile(volume, volume.root, `f${String(i)}`)
    volume.close()
    const findings = checkVolume(damage(file, `UPDATE inodes SET nlink = 9 WHERE mode & ${String(S_IFREG)} <> 0 AND ino > 6`))
    assert.deepEqual([findings.length, findings.at(-1)?.place], [21, 'and more'])
  }))

const foreign: readonly (readonly [sql: string, place: string])[] = [
  ['CREATE TRIGGER evil AFTER INSERT ON inodes BEGIN DELETE FROM chunks; END', 'trigger evil, which does not belong in a volume'],
  ['CREATE VIEW v AS SELECT 1', 'view v, which does not belong in a volume'],
  ['CREATE TABLE t (a)', 'table t, which does not belong in a volume'],
  ['CREATE INDEX i ON inodes (abs(uid))', 'index i, which does not belong in a volume'],
  ['ANALYZE', 'table sqlite_stat1, which does not belong in a volume'],
  ['DROP TABLE xattrs', 'table xattrs, which is missing'],
  ['DROP INDEX dentries_by_name; CREATE INDEX dentries_by_name ON dentries (parent, name)', 'index dentries_by_name, which is not the one of format version'],
  ['ALTER TABLE orphans ADD COLUMN x INTEGER', 'table orphans, which is not the one of format version'],
  ["PRAGMA writable_schema = ON; INSERT INTO sqlite_schema VALUES ('table', 'inodes', 'inodes', 0, 'CREATE TRIGGER evil AFTER INSERT ON inodes BEGIN SELECT 1; END')", 'malformed database schema (inodes)'],
] // prettier-ignore
for (const [sql, place] of foreign) {
  test(`a schema that is not ours is named: ${place}`, () =>
    withFile((file) => {
      const findings = checkVolume(damage(file, sql), { deep: true })
      assert.ok(
        findings.some((finding) => finding.place.includes(place)),
        JSON.stringify(findings),
      )
    }))
}

test('a comment or other white space in the schema changes nothing', () =>
  withFile((file) => {
    const copy = damage(file, "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, ' ', '\n  ') || ' -- mine' WHERE name = 'orphans'") // prettier-ignore
    assert.deepEqual(checkVolume(copy, { deep: true }), [])
  }))

test('what is no volume, or newer, is refused by name', () =>
  withFile((file, folder) => {
    const text = join(folder, 'text')
    writeFileSync(text, 'x'.repeat(5000))
    const other = join(folder, 'other')
    new Database(other).exec('CREATE TABLE t (a)').close()
    const newer = damage(file, 'PRAGMA user_version = 99')
    for (const [bad, fault] of [[text, /not a database/], [other, /not a litevol volume/], [newer, /version 99 is newer/]] as const) {
      const error = assertErrno('EIO', () => checkVolume(bad))
      assert.ok(error.message.includes(bad) && fault.test(error.message), error.message)
    } // prettier-ignore
    assertErrno('ENOENT', () => checkVolume(join(folder, 'none')))
  }))

test('pages of garbage are findings, not an end of the check', () =>
  withFile((file) => {
    const bytes = readFileSync(file)
    for (let page = 1; page < bytes.length / pageSize; page++) {
      const copy = Buffer.from(bytes)
      copy.fill(0xa5, page * pageSize, (page + 1) * pageSize)
      writeFileSync(`${file}.damaged`, copy)
      assert.notDeepEqual(checkVolume(`${file}.damaged`, { deep: true }), [], `page ${String(page + 1)}`)
    }
  }))

test('a file that is shorter or longer than its header says is a finding with the byte', () =>
  withFile((file) => {
    const bytes = readFileSync(file)
    const rule = 'the file ends where its header says'
    const [size, short, long] = [bytes.length, bytes.length - pageSize * 3, bytes.length + pageSize]
    writeFileSync(file, bytes.subarray(0, short))
    assert.deepEqual(checkVolume(file), [
      { rule, place: `byte ${String(short)}, where the file ends: by its header it has ${String(size)}` },
    ])
    writeFileSync(file, Buffer.concat([bytes, Buffer.alloc(pageSize)]))
    assert.deepEqual(checkVolume(file), [
      { rule, place: `byte ${String(size)}, where the file ends by its header: it has ${String(long)}` },
    ])
  }))

test('a check changes nothing, and no file is left beside the volume', () =>
  withFile((file, folder) => {
    const before = picture(folder)
    assert.deepEqual(checkVolume(file, { deep: true }), [])
    assert.deepEqual(picture(folder), before)
  }))

test('what a crash left in the WAL is checked, and stays there', () =>
  withFile((file, folder) => {
    crash(file, "volume.create(volume.root, Buffer.from('new'), { uid: 0, gid: 0, mode: 0o100644 })")
    const wal = readFileSync(`${file}-wal`)
    for (const hasIndex of [true, false]) {
      if (!hasIndex) rmSync(`${file}-shm`)
      const [listing, bytes] = [readdirSync(folder), readFileSync(file)]
      assert.deepEqual(checkVolume(file, { deep: true }), [])
      assert.deepEqual(readdirSync(folder), listing)
      assert.ok(readFileSync(file).equals(bytes) && readFileSync(`${file}-wal`).equals(wal))
    }
    const connection = new Database(file)
    connection.exec("UPDATE inodes SET nlink = 9 WHERE ino = (SELECT ino FROM dentries WHERE name = x'6e6577')")
    crash(file, '') // it recovered the WAL, and the damage is in it
    connection.close()
    assert.deepEqual(checkVolume(file).map(({ place }) => place), ['inode 7 (/new)']) // prettier-ignore
  }))

test('a volume on a read-only file system is checked; with a WAL that needs writing it says so', () =>
  withFile((file, folder) => {
    const mountpoint = join(folder, 'ro')
    mkdirSync(mountpoint)
    execFileSync('mount', ['-t', 'tmpfs', 'litevol-test', mountpoint])
    try {
      const [whole, crashed] = [join(mountpoint, 'whole'), join(mountpoint, 'crashed')]
      for (const copy of [whole, crashed]) copyFileSync(file, copy)
      crash(crashed, "volume.create(volume.root, Buffer.from('new'), { uid: 0, gid: 0, mode: 0o100644 })")
      rmSync(`${crashed}-shm`)
      execFileSync('mount', ['-o', 'remount,ro', mountpoint])
      assert.deepEqual(checkVolume(whole, { deep: true }), [])
      assert.match(assertErrno('EROFS', () => checkVolume(crashed)).message, /crashed: its -wal cannot be read/)
    } finally {
      execFileSync('umount', [mountpoint])
    }
  }))

test('an open volume is checked live at its last commit, and goes on', () =>
  withFile((file) => {
    const volume = Volume.open(file)
    try {
      makeFile(volume, volume.root, 'new', 'in the WAL')
      assert.deepEqual(checkVolume(file, { deep: true, isLive: true }), [])
      makeFile(volume, volume.root, 'newer', 'after it')
    } finally {
      volume.close()
    }
    assertClean(file)
    assert.deepEqual(readdirSync(join(file, '..')), ['volume.sqlite'])
  }))

test('a deep check tells how far it is', () =>
  withFile((file) => {
    const told: CheckProgress[] = []
    checkVolume(file, { deep: true, onProgress: (progress) => told.push(progress) })
    const total = 200_000
    assert.deepEqual(told, [{ step: 'structure' }, { step: 'rules' }, { step: 'chunks', done: 0, total }, { step: 'chunks', done: total, total }]) // prettier-ignore
  }))
