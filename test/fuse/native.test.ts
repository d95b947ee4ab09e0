/** The path side of the driver fuse-native, called as libfuse 2 calls it; the real thing is mounted in test/mount. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, it } from 'node:test'
import { ErrnoError, S_IFDIR, S_IFREG } from '../../src/base/index.ts'
import type { Nodeid } from '../../src/base/index.ts'
import { PathFilesystem } from '../../src/fuse/native/path-filesystem.ts'
import { namesOf, textOf } from '../../src/fuse/native/paths.ts'
import { statRecord, statfsRecord } from '../../src/fuse/native/records.ts'
import { MemoryFilesystem } from './memory-filesystem.ts'

const hasCode = (code: string) => (error: unknown) => error instanceof ErrnoError && error.code === code

/** A name such as libfuse 2.9 gives to hide an open file. */
const hidden = '.fuse_hidden0000000200000001'

const O_RDONLY = 0

function make() {
  const memory = new MemoryFilesystem()
  const faults: unknown[] = []
  const fs = new PathFilesystem(memory, (error) => faults.push(error))
  const names = (path: string): string[] => fs.list(path).map(({ name }) => name.toString())
  /** libfuse's way to unlink a file that it knows to be open. */
  const hide = (path: string, newPath: string): void => {
    fs.begin('rename', path, newPath)
    fs.rename(path, newPath)
  }
  return { memory, faults, fs, names, hide }
}

/** nlookup of every node that is known for more than its being open. */
function held(memory: MemoryFilesystem): number[] {
  return [...memory.nodes.values()].filter(({ nlookup }) => nlookup !== 0).map(({ ino }) => ino)
}

describe('paths', () => {
  it('every lookup is balanced by a forget, in errors too', () => {
    const { memory, fs } = make()
    fs.mkdir('/a', 0o755)
    fs.mkdir('/a/b', 0o755)
    fs.mknod('/a/b/f', S_IFREG | 0o644, 0)
    fs.link('/a/b/f', '/a/g')
    fs.symlink('target', '/a/s')
    fs.rename('/a/g', '/a/b/h')
    fs.setattr('/a/b/h', { mode: 0o600 })
    assert.equal(fs.readlink('/a/s'), 'target')
    assert.equal(fs.getattr('/a/b/h').nlink, 2)
    fs.setxattr('/a/b/h', 'user.x', Buffer.from('v'), 0)
    assert.equal(fs.getxattr('/a/b/f', 'user.x').toString(), 'v')
    const fh = fs.open('/a/b/f', O_RDONLY)
    fs.release(fh)
    fs.release(fs.create('/a/c', 0o644))
    for (const path of ['/none', '/a/none/x', '/a/b/f/x']) assert.throws(() => fs.getattr(path), ErrnoError)
    assert.throws(() => { fs.rename('/a/b/f', '/none/x') }, hasCode('ENOENT')) // prettier-ignore
    assert.throws(() => { fs.mkdir('/a/b', 0o755) }, hasCode('EEXIST')) // prettier-ignore
    fs.unlink('/a/c')
    assert.deepEqual(held(memory), [])
  })

  it('the root has no names, and others are those between the slashes', () => {
    assert.deepEqual(namesOf('/').map(String), [])
    assert.deepEqual(namesOf('/a/b c/ä').map(String), ['a', 'b c', 'ä'])
  })

  it('what was no UTF-8 is EILSEQ, never another name', () => {
    const { fs } = make()
    assert.throws(() => { fs.mkdir('/\ufffd', 0o755) }, hasCode('EILSEQ')) // prettier-ignore
    assert.throws(() => fs.getattr('/a\ufffdb'), hasCode('EILSEQ'))
    assert.throws(() => { fs.symlink('\ufffd', '/s') }, hasCode('EILSEQ')) // prettier-ignore
    assert.throws(() => textOf(Buffer.from([0xff])), hasCode('EILSEQ'))
  })

  it('access control lists are refused, and their names not listed', () => {
    const { memory, fs } = make()
    fs.mknod('/f', S_IFREG | 0o644, 0)
    const acl = 'system.posix_acl_access'
    assert.throws(() => { fs.setxattr('/f', acl, Buffer.alloc(4), 0) }, hasCode('EOPNOTSUPP')) // prettier-ignore
    assert.throws(() => fs.getxattr('/f', acl), hasCode('EOPNOTSUPP'))
    const entry = memory.lookup(1 as Nodeid, Buffer.from('f'))
    assert.ok(entry !== undefined)
    for (const name of ['user.a', acl, 'user.b']) {
      memory.setxattr(entry.nodeid, Buffer.from(name), Buffer.from('v'))
    }
    assert.equal(fs.listxattr('/f').toString(), 'user.a\0user.b\0')
  })

  it('a new inode belongs to the owner of its directory, and lends nobody his rights', () => {
    const { fs } = make()
    fs.mkdir('/d', 0o777)
    fs.setattr('/d', { uid: 1001, gid: 1002 })
    fs.mknod('/d/f', S_IFREG | 0o6755, 0)
    fs.release(fs.create('/d/g', 0o4755))
    fs.mkdir('/d/e', 0o755)
    fs.symlink('x', '/d/s')
    for (const path of ['/d/f', '/d/g', '/d/e', '/d/s']) assert.deepEqual([fs.getattr(path).uid, fs.getattr(path).gid], [1001, 1002])
    assert.deepEqual([fs.getattr('/d/f').mode, fs.getattr('/d/g').mode], [S_IFREG | 0o755, S_IFREG | 0o755])
  })
})

describe('an open file that loses its name', () => {
  it('is itself under the name that hides it, has no name in the volume, and is gone after its last close', async () => {
    const { memory, fs, names, hide } = make()
    const fh = fs.create('/f', 0o644)
    fs.write(fh, 0, Buffer.from('content'))
    const { ino } = fs.getattr('/f')
    hide('/f', `/${hidden}`)
    while (!fs.isSettled) await sleep(1)
    assert.deepEqual(names('/'), ['.', '..'])
    assert.deepEqual([fs.getattr(`/${hidden}`).ino, fs.getattrOpen(fh).nlink], [ino, 0])
    const second = fs.open(`/${hidden}`, O_RDONLY)
    const into = Buffer.alloc(20)
    assert.equal(into.toString('utf8', 0, fs.read(second, 0, into)), 'content')
    fs.release(fh)
    assert.equal(fs.getattr(`/${hidden}`).ino, ino)
    fs.release(second)
    assert.throws(() => fs.getattr(`/${hidden}`), hasCode('ENOENT'), 'libfuse looks so for a free name')
    assert.throws(() => fs.open(`/${hidden}`, O_RDONLY), hasCode('ESTALE'))
    assert.equal(memory.nodes.has(ino), false)
    assert.deepEqual(held(memory), [])
  })

  it('keeps its name until another operation could see it', () => {
    const { fs, names, hide } = make()
    const fh = fs.create('/f', 0o644)
    fs.mkdir('/d', 0o755)
    hide('/f', `/${hidden}`)
    assert.equal(fs.isSettled, false)
    fs.begin('write', `/${hidden}`, fh)
    fs.begin('getattr', '/d', undefined)
    assert.equal(fs.isSettled, false)
    fs.begin('getattr', '/f', undefined)
    assert.equal(fs.isSettled, true)
    assert.deepEqual(names('/'), ['.', '..', 'd'])
  })

  it('is replaced in one step by the rename for which libfuse hides it', () => {
    const { memory, fs, names, hide } = make()
    const old = fs.create('/config', 0o644)
    fs.write(old, 0, Buffer.from('old'))
    fs.release(fs.create('/config.new', 0o644))
    hide('/config', `/${hidden}`)
    assert.deepEqual(names('/'), ['.', '..', 'config', 'config.new'], 'a snapshot now has the old one')
    fs.begin('rename', '/config.new', '/config')
    fs.rename('/config.new', '/config')
    assert.equal(fs.isSettled, true)
    assert.deepEqual(names('/'), ['.', '..', 'config'])
    assert.equal(fs.getattr('/config').size, 0)
    const into = Buffer.alloc(10)
    assert.equal(into.toString('utf8', 0, fs.read(old, 0, into)), 'old')
    fs.release(old)
    assert.deepEqual(held(memory), [])
  })

  it('is found under a directory that was renamed meanwhile', () => {
    const { fs, hide } = make()
    fs.mkdir('/d', 0o755)
    const fh = fs.create('/d/f', 0o644)
    hide('/d/f', `/d/${hidden}`)
    fs.begin('rename', '/d', '/e')
    fs.rename('/d', '/e')
    assert.equal(fs.getattr(`/e/${hidden}`).nlink, 0)
    fs.release(fh)
  })

  it('a file that is not open is renamed to such a name like any other', () => {
    const { fs, names, hide } = make()
    fs.mknod('/f', S_IFREG | 0o644, 0)
    hide('/f', `/${hidden}`)
    assert.deepEqual(names('/'), ['.', '..', hidden])
    fs.unlink(`/${hidden}`)
    assert.deepEqual(names('/'), ['.', '..'])
  })
})

describe('records', () => {
  const at = (sec: number, nsec: number) => ({ sec, nsec })
  const attributes = { ino: 2 ** 32 + 7, size: 2 ** 40 + 5, blocks: 3, mode: S_IFDIR | 0o755, nlink: 2, uid: 1, gid: 2 ** 32 - 2, rdev: 9 }

  it('stat has its words where fuse-native reads them', () => {
    const times = { atime: at(1, 999_999_999), mtime: at(2 ** 32, 0), ctime: at(-5, 0) }
    assert.deepEqual(
      [...statRecord({ ...attributes, ...times })],
      [0o40755, 1, 2 ** 32 - 2, 5, 256, 0, 2, 7, 9, 4096, 3, 0, 1999, 0, 0, 1000, 0, 0],
    )
    assert.deepEqual([...statRecord(undefined)], new Array<number>(18).fill(0))
  })

  it('statvfs of a volume beyond 2^32 blocks is told in larger blocks', () => {
    const files = { files: 2 ** 40, filesFree: 5, nameMax: 255 }
    const large = { blockSize: 4096, blocks: 2 ** 33, blocksFree: 2 ** 32, blocksAvailable: 12, ...files }
    assert.deepEqual([...statfsRecord(large)], [16384, 16384, 2 ** 31, 2 ** 30, 3, 2 ** 32 - 1, 5, 5, 0, 0, 255])
  })
})
