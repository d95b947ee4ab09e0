/** POSIX table: names, rename, removing, and what open(2) does by its flags. */
import assert from 'node:assert/strict'
import {
  O_APPEND,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
} from './linux.ts'
import type { Cases } from './place.ts'
import { assertErrno, hasErrno } from './process.ts'
import { assertMoves } from './time.ts'

export const names: Cases = {
  'a name has 1 to 255 bytes of any kind but / and NUL': async ({ root }) => {
    const wanted = ['x'.repeat(255), '\xff\xfe\x01', ' ', '\n', '...', '-rf']
    for (const name of wanted) await root.put(name, name)
    assert.deepEqual((await root.listdir('.')).sort(), [...wanted].sort())
    for (const name of wanted) assert.equal(await root.get(name), name)
    for (const call of [root.stat, root.mkdir, root.unlink, root.rmdir, root.mkfifo])
      await assertErrno('ENAMETOOLONG', call('x'.repeat(256)))
    await assertErrno('ENAMETOOLONG', root.put('x'.repeat(256), ''))
    await assertErrno('ENAMETOOLONG', root.rename(' ', 'x'.repeat(256)))
    await assertErrno('ENAMETOOLONG', root.link(' ', 'x'.repeat(256)))
    await assertErrno('ENAMETOOLONG', root.symlink(' ', 'x'.repeat(256)))
  },

  'a path of 4,096 bytes is ENAMETOOLONG, however short its names': async ({ root }) => {
    await assertErrno('ENAMETOOLONG', root.stat(`${'./'.repeat(2048)}x`))
    assert.equal(typeof (await root.stat('./'.repeat(2047))).ino, 'number')
  },

  'names differ by case and by the form of their Unicode': async ({ root }) => {
    const forms = ['A', 'a', Buffer.from('é').toString('latin1'), Buffer.from('é'.normalize('NFD')).toString('latin1')]
    for (const name of forms) await root.put(name, name)
    for (const name of forms) assert.equal(await root.get(name), name)
    assert.equal((await root.listdir('.')).length, 4)
  },

  'rename moves a name, over a file too, and moves the times of both directories': async ({ root }) => {
    await root.mkdir('d')
    await root.put('a', 'a')
    await root.put('d/b', 'b')
    const { ino } = await root.stat('a')
    await assertMoves(root, 'd', ['mtime', 'ctime'], () => assertMoves(root, '.', ['mtime', 'ctime'], () => root.rename('a', 'd/b')))
    await assertErrno('ENOENT', root.stat('a'))
    assert.deepEqual([await root.get('d/b'), (await root.stat('d/b')).ino], ['a', ino])
  },

  'a file that a rename replaced lives on for whoever has it open': async ({ root }) => {
    await root.put('old', 'old')
    await root.put('new', 'new')
    const fd = await root.open('old', O_RDWR)
    await root.rename('new', 'old')
    assert.deepEqual([await root.read(fd, 10), (await root.stat(fd)).nlink], ['old', 0])
    await root.pwrite(fd, 'OLD', 0)
    assert.equal(await root.get('old'), 'new')
  },

  'rename over another name of the same inode does nothing': async ({ root }) => {
    await root.put('a', '')
    await root.link('a', 'b')
    await root.rename('a', 'b')
    assert.deepEqual((await root.listdir('.')).sort(), ['a', 'b'])
  },

  'rename replaces an empty directory by a directory only': async ({ root }) => {
    for (const name of ['d', 'empty', 'full', 'full/x']) await root.mkdir(name)
    await root.put('file', '')
    await assertErrno('ENOTEMPTY', root.rename('d', 'full'))
    await assertErrno('ENOTDIR', root.rename('d', 'file'))
    await assertErrno('EISDIR', root.rename('file', 'd'))
    const held = await root.open('empty', O_RDONLY | O_DIRECTORY)
    await root.rename('d', 'empty')
    assert.equal((await root.stat(held)).nlink, 0)
    assert.deepEqual((await root.listdir('.')).sort(), ['empty', 'file', 'full'])
  },

  'a directory that a rename replaced can be asked for, and takes no new entries': async ({ root }) => {
    await root.mkdir('old')
    await root.mkdir('new')
    const { ino } = await root.stat('old')
    const held = await root.open('old', O_RDONLY | O_DIRECTORY)
    await root.rename('new', 'old')
    const stat = await root.stat(held)
    assert.deepEqual([stat.ino, stat.nlink], [ino, 0])
    await root.chdir(held)
    await assertErrno('ENOENT', root.put('file', ''))
    await assertErrno('ENOENT', root.mkdir('d'))
    await assertErrno('ENOENT', root.getdents(held))
  },

  'a directory cannot move below itself': async ({ root }) => {
    await root.mkdir('d')
    await root.mkdir('d/e')
    await assertErrno('EINVAL', root.rename('d', 'd/e/f'))
    await assertErrno('EINVAL', root.rename('d', 'd/f'))
    await assertErrno('ENOTEMPTY', root.rename('d/e', 'd'))
  },

  'a directory that moves gets another ..': async ({ root }) => {
    for (const name of ['a', 'b', 'a/d']) await root.mkdir(name)
    await root.rename('a/d', 'b/d')
    assert.equal((await root.stat('b/d/..')).ino, (await root.stat('b')).ino)
    assert.deepEqual([(await root.stat('a')).nlink, (await root.stat('b')).nlink], [2, 3])
  },

  'RENAME_NOREPLACE renames to a free name only': async ({ root }) => {
    await root.put('a', 'a')
    await root.put('b', 'b')
    await assertErrno('EEXIST', root.renameat2('a', 'b', RENAME_NOREPLACE))
    await assertErrno('EEXIST', root.renameat2('a', 'a', RENAME_NOREPLACE))
    await root.renameat2('a', 'c', RENAME_NOREPLACE)
    assert.deepEqual([await root.get('c'), await root.get('b')], ['a', 'b'])
  },

  'RENAME_EXCHANGE swaps two names, a file with a directory too': async ({ root }) => {
    for (const name of ['left', 'right', 'right/d', 'right/d/x']) await root.mkdir(name)
    await root.put('left/f', 'content')
    await root.renameat2('left/f', 'right/d', RENAME_EXCHANGE)
    assert.equal(await root.get('right/d'), 'content')
    assert.deepEqual(await root.listdir('left/f'), ['x'])
    assert.deepEqual([(await root.stat('left')).nlink, (await root.stat('right')).nlink], [3, 2])
    assert.equal((await root.stat('left/f/..')).ino, (await root.stat('left')).ino)
    await assertErrno('ENOENT', root.renameat2('left/f', 'missing', RENAME_EXCHANGE))
    await assertErrno('EINVAL', root.renameat2('left', 'left/f', RENAME_EXCHANGE))
    await assertErrno('EINVAL', root.renameat2('left', 'right', RENAME_EXCHANGE | RENAME_NOREPLACE))
  },

  'rmdir takes an empty directory only': async ({ root }) => {
    await root.mkdir('d')
    await root.mkdir('d/e')
    await root.put('file', '')
    await assertErrno('ENOTEMPTY', root.rmdir('d'))
    await assertErrno('ENOTDIR', root.rmdir('file'))
    await assertErrno('EINVAL', root.rmdir('d/.'))
    await assertErrno('ENOTEMPTY', root.rmdir('d/e/..'))
    await assertErrno('EISDIR', root.unlink('d'))
    await root.rmdir('d/e')
    await root.rmdir('d')
    await assertErrno('ENOENT', root.stat('d'))
  },

  'a removed directory that is somebody’s working directory takes no new entries': async ({ root, start }) => {
    await root.mkdir('d')
    const inside = start()
    await inside.chdir('d')
    await root.rmdir('d')
    assert.equal((await inside.stat('.')).nlink, 0)
    await assertErrno('ENOENT', inside.mkdir('e'))
    await assertErrno('ENOENT', inside.put('f', ''))
    await assertErrno('ENOENT', inside.symlink('x', 'l'))
    await assertErrno('ENOENT', inside.link('/proc/self/fd/0', 'l'))
  },

  'a trailing slash asks for a directory': async ({ root }) => {
    await root.put('file', '')
    await root.mkdir('d/')
    assert.equal((await root.stat('d/')).nlink, 2)
    await assertErrno('ENOTDIR', root.stat('file/'))
    await assertErrno('ENOTDIR', root.stat('file/x'))
    await assertErrno('EISDIR', root.open('new/', O_CREAT | O_WRONLY, 0o644))
    await assertErrno('ENOTDIR', root.rename('file', 'other/'))
  },

  'whatever makes a name refuses one that is taken': async ({ root }) => {
    await root.symlink('nowhere', 'taken')
    await assertErrno('EEXIST', root.mkdir('taken'))
    await assertErrno('EEXIST', root.mkfifo('taken'))
    await assertErrno('EEXIST', root.symlink('x', 'taken'))
    await assertErrno('EEXIST', root.open('taken', O_CREAT | O_EXCL | O_WRONLY, 0o644))
    await assertErrno('EADDRINUSE', root.bind('taken'))
    await assertErrno('EEXIST', root.mkdir('.'))
  },

  'O_CREAT through a symlink makes the file it points at': async ({ root }) => {
    await root.symlink('target', 'link')
    await root.put('link', 'content')
    assert.equal(await root.get('target'), 'content')
  },

  'O_EXCL lets one of several processes win': async ({ start }) => {
    const processes = Array.from({ length: 4 }, () => start())
    for (let round = 0; round < 20; round++) {
      const results = await Promise.allSettled(
        processes.map((process) => process.open(`lock-${String(round)}`, O_CREAT | O_EXCL | O_WRONLY, 0o600)),
      )
      assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1)
      for (const result of results) if (result.status === 'rejected') assert.ok(hasErrno(result.reason, 'EEXIST'))
    }
  },

  'O_TRUNC empties a file and moves its times, an empty one’s too': async ({ root }) => {
    await root.put('f', 'content')
    for (const before of [7, 0]) {
      assert.equal((await root.stat('f')).size, before)
      await assertMoves(root, 'f', ['mtime', 'ctime'], async () => root.close(await root.open('f', O_WRONLY | O_TRUNC)))
      assert.equal((await root.stat('f')).size, 0)
    }
    assert.equal(await root.get('f'), '')
  },

  'O_TRUNC empties a file under another’s open descriptor': async ({ root, start }) => {
    await root.put('f', 'content')
    const fd = await root.open('f', O_RDWR)
    assert.equal(await root.read(fd, 3), 'con')
    const other = start()
    await other.close(await other.open('f', O_WRONLY | O_TRUNC))
    assert.equal(await root.read(fd, 3), '')
    await root.write(fd, 'x')
    assert.equal(await other.get('f'), '\0\0\0x')
  },

  'O_APPEND writes at the end, wherever the position is': async ({ root, start }) => {
    await root.put('f', 'one ')
    const fd = await root.open('f', O_RDWR | O_APPEND)
    const other = start()
    await other.write(await other.open('f', O_WRONLY | O_APPEND), 'two ')
    await root.lseek(fd, 0, 0)
    await root.write(fd, 'three')
    assert.equal(await root.get('f'), 'one two three')
  },

  'O_APPEND from several processes loses and mixes nothing': async ({ root, start }) => {
    await root.put('log', '')
    const [writers, lines] = [4, 300]
    await Promise.all(Array.from({ length: writers }, (_, index) => start().appendLines('log', `writer-${String(index)}`, lines)))
    const written = (await root.get('log')).split('\n').slice(0, -1)
    assert.equal(written.length, writers * lines)
    for (let index = 0; index < writers; index++) {
      const own = written.filter((line) => line.startsWith(`writer-${String(index)} `))
      assert.deepEqual(
        own,
        Array.from({ length: lines }, (_, line) => `writer-${String(index)} ${String(line)}`),
      )
    }
  },

  'O_NOFOLLOW refuses a symlink, O_DIRECTORY anything but a directory, writing a directory': async ({ root }) => {
    await root.put('file', '')
    await root.symlink('file', 'link')
    await assertErrno('ELOOP', root.open('link', O_RDONLY | O_NOFOLLOW))
    await assertErrno('ENOTDIR', root.open('file', O_RDONLY | O_DIRECTORY))
    await assertErrno('EISDIR', root.open('.', O_RDWR))
    await assertErrno('EISDIR', root.open('.', O_RDONLY | O_CREAT, 0o644))
    await assertErrno('ENOENT', root.open('missing', O_RDONLY))
    await assertErrno('ENOENT', root.open('', O_RDONLY))
  },
}
