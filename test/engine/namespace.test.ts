import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RENAME_EXCHANGE, RENAME_NOREPLACE, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, type Ino } from '../../src/base/index.ts'
import type { Volume } from '../../src/engine/index.ts'
import { assertErrno, makeDirectory, makeFile, names, readAll, withVolume } from '../support.ts'

const b = Buffer.from

/** The inode of a path from the root. */
function at(volume: Volume, path: string): Ino {
  return path.split('/').reduce((ino, name) => volume.lookup(ino, b(name))?.ino ?? assert.fail(`${path} is missing`), volume.root)
}

test('a new volume is an empty directory with nlink 2', () =>
  withVolume((volume) => {
    assert.deepEqual(names(volume, volume.root), [])
    assert.equal(volume.get(volume.root).nlink, 2)
    assert.equal(volume.lookup(volume.root, b('..'))?.ino, volume.root)
  }))

test('a name is bytes: newline, invalid UTF-8 and 255 bytes are kept, 256 are ENAMETOOLONG', () =>
  withVolume((volume) => {
    const odd = [b('new\nline'), Buffer.from([0xff, 0xfe, 0x80]), Buffer.alloc(255, 0x61)]
    for (const name of odd) volume.create(volume.root, name, { uid: 0, gid: 0, mode: 0o100644 })
    const found: Buffer[] = []
    volume.list(volume.root, 0, ({ name }) => found.push(name) > 0)
    assert.deepEqual(found, odd)
    assertErrno('ENAMETOOLONG', () => volume.create(volume.root, Buffer.alloc(256, 0x61), { uid: 0, gid: 0, mode: 0o100644 }))
    assertErrno('ENAMETOOLONG', () => volume.lookup(volume.root, Buffer.alloc(256, 0x61)))
  }))

test('a second inode of the same name is EEXIST and leaves nothing behind', () =>
  withVolume((volume) => {
    makeFile(volume, volume.root, 'a')
    const { inodes } = volume.room()
    assertErrno('EEXIST', () => makeFile(volume, volume.root, 'a'))
    assert.equal(volume.room().inodes, inodes)
  }))

test('a hard link is another name of the same inode, and nlink and ctime say so', () =>
  withVolume((volume) => {
    const ino = makeFile(volume, volume.root, 'a', 'text')
    const before = volume.get(ino)
    const linked = volume.link(ino, volume.root, b('b'))
    assert.equal(linked.nlink, 2)
    assert.ok(linked.ctime.sec > before.ctime.sec || linked.ctime.nsec > before.ctime.nsec)
    assert.equal(volume.unlink(volume.root, b('a')).nlink, 1)
    assert.equal(readAll(volume, at(volume, 'b')).toString(), 'text')
    assertErrno('EPERM', () => volume.link(makeDirectory(volume, volume.root, 'd'), volume.root, b('e')))
  }))

test('a symlink keeps its target to 4095 bytes; only a symlink can be read as one', () =>
  withVolume((volume) => {
    const creation = { uid: 0, gid: 0, mode: S_IFLNK | 0o777 }
    const link = volume.create(volume.root, b('l'), { ...creation, target: Buffer.alloc(4095, 0x78) })
    assert.equal(volume.readlink(link.ino).length, 4095)
    assert.equal(link.size, 4095)
    assertErrno('ENAMETOOLONG', () => volume.create(volume.root, b('m'), { ...creation, target: Buffer.alloc(4096) }))
    assertErrno('EINVAL', () => volume.readlink(volume.root))
  }))

test('an unlinked inode keeps its content until it is collected, then its rows are gone', () =>
  withVolume((volume) => {
    const ino = makeFile(volume, volume.root, 'a', 'still here')
    assert.equal(volume.unlink(volume.root, b('a')).nlink, 0)
    assert.equal(readAll(volume, ino).toString(), 'still here')
    volume.collect([ino])
    assertErrno('ESTALE', () => volume.get(ino))
  }))

test('collect leaves an inode with a name alone', () =>
  withVolume((volume) => {
    const ino = makeFile(volume, volume.root, 'a', 'x')
    volume.collect([ino])
    assert.equal(readAll(volume, ino).toString(), 'x')
  }))

test('an unnamed file can be given a name', () =>
  withVolume((volume) => {
    const { ino, nlink } = volume.createUnnamed(volume.root, { uid: 0, gid: 0, mode: 0o100600 })
    assert.equal(nlink, 0)
    assert.equal(volume.link(ino, volume.root, b('named')).nlink, 1)
    volume.collect(volume.orphans())
    assert.equal(at(volume, 'named'), ino)
  }))

test('mkdir and rmdir count links of the parent; only an empty directory can go', () =>
  withVolume((volume) => {
    const d = makeDirectory(volume, volume.root, 'd')
    makeFile(volume, d, 'f')
    assert.equal(volume.get(volume.root).nlink, 3)
    assertErrno('ENOTEMPTY', () => volume.rmdir(volume.root, b('d')))
    assertErrno('EISDIR', () => volume.unlink(volume.root, b('d')))
    assertErrno('ENOTDIR', () => volume.rmdir(d, b('f')))
    volume.unlink(d, b('f'))
    volume.rmdir(volume.root, b('d'))
    assert.equal(volume.get(volume.root).nlink, 2)
    assertErrno('ENOENT', () => makeFile(volume, d, 'late'))
  }))

test('rename replaces a file, and moves directories with their link counts', () =>
  withVolume((volume) => {
    const [d, e] = [makeDirectory(volume, volume.root, 'd'), makeDirectory(volume, volume.root, 'e')]
    const moved = makeFile(volume, d, 'a', 'new')
    const old = makeFile(volume, e, 'b', 'old')
    assert.equal(volume.rename(d, b('a'), e, b('b'), 0)?.ino, old)
    assert.equal(at(volume, 'e/b'), moved)
    volume.rename(volume.root, b('d'), e, b('d'), 0)
    assert.deepEqual([volume.get(volume.root).nlink, volume.get(e).nlink], [3, 3])
    assert.equal(volume.lookup(d, b('..'))?.ino, e)
  }))

const refusals: readonly (readonly [name: string, code: 'EINVAL' | 'EISDIR' | 'ENOTDIR' | 'ENOTEMPTY' | 'EEXIST' | 'ENOENT', from: string, to: string, flags: number])[] = [
  ['a directory into itself', 'EINVAL', 'd', 'd/x', 0],
  ['a directory below itself', 'EINVAL', 'd', 'd/sub/x', 0],
  ['a file over a directory', 'EISDIR', 'f', 'empty', 0],
  ['a directory over a file', 'ENOTDIR', 'd', 'f', 0],
  ['a directory over a non-empty directory', 'ENOTEMPTY', 'empty', 'd', 0],
  ['over an existing name with RENAME_NOREPLACE', 'EEXIST', 'f', 'g', RENAME_NOREPLACE],
  ['an exchange with nothing', 'ENOENT', 'f', 'none', RENAME_EXCHANGE],
  ['an exchange of a directory with one below it', 'EINVAL', 'd', 'd/sub', RENAME_EXCHANGE],
  ['a name that does not exist', 'ENOENT', 'none', 'x', 0],
  ['with an unknown flag', 'EINVAL', 'f', 'x', 4],
] // prettier-ignore

for (const [name, code, from, to, flags] of refusals) {
  test(`rename: ${name} fails with ${code}`, () =>
    withVolume((volume) => {
      const d = makeDirectory(volume, volume.root, 'd')
      makeDirectory(volume, d, 'sub')
      makeDirectory(volume, volume.root, 'empty')
      for (const file of ['f', 'g']) makeFile(volume, volume.root, file)
      const place = (path: string): [Ino, Buffer] => {
        const parts = path.split('/')
        const last = parts.pop() ?? ''
        return [parts.length === 0 ? volume.root : at(volume, parts.join('/')), b(last)]
      }
      assertErrno(code, () => volume.rename(...place(from), ...place(to), flags))
      assert.deepEqual(names(volume, volume.root), ['d', 'empty', 'f', 'g'])
    }))
}

test('rename between two names of one inode does nothing', () =>
  withVolume((volume) => {
    const ino = makeFile(volume, volume.root, 'a')
    volume.link(ino, volume.root, b('b'))
    assert.equal(volume.rename(volume.root, b('a'), volume.root, b('b'), 0), undefined)
    assert.deepEqual(names(volume, volume.root), ['a', 'b'])
  }))

test('RENAME_EXCHANGE swaps a file and a directory', () =>
  withVolume((volume) => {
    const d = makeDirectory(volume, volume.root, 'd')
    const sub = makeDirectory(volume, d, 'sub')
    const file = makeFile(volume, volume.root, 'f')
    volume.rename(volume.root, b('f'), d, b('sub'), RENAME_EXCHANGE)
    assert.deepEqual([at(volume, 'f'), at(volume, 'd/sub')], [sub, file])
    assert.deepEqual([volume.get(d).nlink, volume.get(volume.root).nlink], [2, 4])
  }))

test('a listing that goes on after a cookie neither skips nor repeats under removal and creation', () =>
  withVolume((volume) => {
    const all = Array.from({ length: 1000 }, (_, i) => `n${String(i)}`)
    for (const name of all) makeFile(volume, volume.root, name)
    const seen: string[] = []
    for (let cookie = 0, more = true; more;) {
      more = false
      volume.list(volume.root, cookie, (dentry) => {
        seen.push(dentry.name.toString())
        cookie = dentry.cookie
        more = true
        return seen.length % 50 !== 0
      })
      if (!more) break
      volume.unlink(volume.root, b(seen.at(-1) ?? ''))
      makeFile(volume, volume.root, `late${String(seen.length)}`)
      if (seen.length > 2000) break
    }
    const old = seen.filter((name) => name.startsWith('n'))
    assert.deepEqual(old, all)
    assert.equal(new Set(seen).size, seen.length)
  }))

test('a setgid directory hands its group down, and the bit to directories', () =>
  withVolume((volume) => {
    const d = volume.create(volume.root, b('d'), { uid: 1, gid: 50, mode: 0o042755 })
    assert.equal(volume.create(d.ino, b('f'), { uid: 2, gid: 3, mode: 0o100644 }).gid, 50)
    assert.equal(volume.create(d.ino, b('s'), { uid: 2, gid: 3, mode: 0o040755 }).mode, 0o042755)
  }))

test('what no kernel asks for is refused: a type that is none, a target that does not fit it, a name that no path can hold', () =>
  withVolume((volume) => {
    const make = (name: string, mode: number, target?: Buffer) =>
      volume.create(volume.root, b(name), { uid: 0, gid: 0, mode, rdev: 7, ...(target === undefined ? {} : { target }) })
    for (const mode of [0o644, S_IFMT]) assertErrno('EINVAL', () => make('a', mode))
    assertErrno('EINVAL', () => make('a', S_IFREG, b('target')))
    assertErrno('ENOENT', () => make('a', S_IFLNK))
    assertErrno('ENOENT', () => make('a', S_IFLNK, b('')))
    for (const name of ['.', '..']) assertErrno('EEXIST', () => make(name, S_IFREG))
    for (const name of ['a/b', 'a\0']) assertErrno('EINVAL', () => make(name, S_IFREG))
    const file = make('a', S_IFREG)
    assertErrno('EEXIST', () => volume.rename(volume.root, b('a'), volume.root, b('..'), 0))
    assertErrno('EINVAL', () => volume.rename(volume.root, b('a'), volume.root, b('a/b'), 0))
    assertErrno('ENOTDIR', () => volume.rename(file.ino, b('a'), volume.root, b('b'), 0))
    assert.equal(file.rdev, 0)
    assert.equal(make('s', 0xfff_0000 | S_IFSOCK | 0o600).mode, S_IFSOCK | 0o600)
    assert.deepEqual(names(volume, volume.root), ['a', 's'])
  }))

test('extended attributes of an inode that is gone are ESTALE', () =>
  withVolume((volume) => {
    const gone = 99 as Ino
    assertErrno('ESTALE', () => volume.getXattr(gone, b('user.a')))
    assertErrno('ESTALE', () => volume.xattrNames(gone))
    assertErrno('ESTALE', () => {
      volume.setXattr(gone, b('user.a'), b('1'), 0)
    })
    assertErrno('ESTALE', () => {
      volume.removeXattr(gone, b('user.a'))
    })
  }))
