/** POSIX table: types of inodes, hard links, symlinks, files without a name. */
import assert from 'node:assert/strict'
import {
  AT_SYMLINK_FOLLOW,
  O_CREAT,
  O_EXCL,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE,
  O_WRONLY,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFSOCK,
  SEEK_SET,
} from './linux.ts'
import type { Cases } from './place.ts'
import { assertErrno } from './process.ts'
import { assertMoves } from './time.ts'

export const nodes: Cases = {
  'fifos, sockets, character and block devices have their type, mode and device number': async ({ root }) => {
    const device = await root.makedev(259, 65_537)
    for (const [name, type, rdev] of [
      ['fifo', S_IFIFO, 0],
      ['socket', S_IFSOCK, 0],
      ['character', S_IFCHR, device],
      ['block', S_IFBLK, device],
    ] as const) {
      await root.mknod(name, type | 0o640, rdev)
      const stat = await root.lstat(name)
      assert.deepEqual([stat.mode, stat.rdev, stat.nlink, stat.size], [type | 0o640, rdev, 1, 0], name)
    }
  },

  'a fifo carries bytes between two processes': async ({ root, start }) => {
    await root.mkfifo('fifo')
    const reader = await root.open('fifo', O_RDONLY | O_NONBLOCK)
    const other = start()
    await other.write(await other.open('fifo', O_WRONLY), 'through the fifo')
    assert.equal(await root.read(reader, 100), 'through the fifo')
  },

  'a socket is reached through its name, and by none after that is gone': async ({ root, start }) => {
    const listener = await root.bind('socket')
    assert.equal((await root.lstat('socket')).mode & S_IFMT, S_IFSOCK)
    const other = start()
    await other.connect('socket', 'hello')
    assert.equal(await root.accept(listener), 'hello')
    await root.unlink('socket')
    await assertErrno('ENOENT', other.connect('socket', 'hello'))
    await assertErrno(
      'EADDRINUSE',
      root.put('file', '').then(() => root.bind('file')),
    )
  },

  'a device opened through its node is the device': async ({ root }) => {
    await root.mknod('zero', S_IFCHR | 0o666, await root.makedev(1, 5))
    assert.equal(await root.read(await root.open('zero', O_RDONLY), 3), '\0\0\0')
  },

  'mknod of a device is for root only, mkfifo for everybody': async ({ root, start }) => {
    await root.chmod('.', 0o777)
    const user = start({ uid: 1001, gid: 1001 })
    await assertErrno('EPERM', user.mknod('device', S_IFCHR | 0o666, await root.makedev(1, 5)))
    await user.mkfifo('fifo')
  },

  'hard links are one inode: its nlink counts them and its ctime moves with each': async ({ root }) => {
    await root.put('a', 'content')
    await assertMoves(root, 'a', ['ctime'], () => root.link('a', 'b'))
    await root.mkdir('d')
    await root.link('b', 'd/c')
    for (const name of ['a', 'b', 'd/c']) {
      assert.deepEqual([(await root.stat(name)).nlink, (await root.stat(name)).ino], [3, (await root.stat('a')).ino])
    }
    await assertMoves(root, 'a', ['ctime'], () => root.unlink('b'))
    assert.equal((await root.stat('a')).nlink, 2)
    await root.put('d/c', 'changed')
    assert.equal(await root.get('a'), 'changed')
  },

  'a file, a fifo and a symlink can have several names, a directory cannot': async ({ root }) => {
    await root.mkfifo('fifo')
    await root.link('fifo', 'fifo2')
    assert.equal((await root.lstat('fifo2')).nlink, 2)
    await root.symlink('fifo', 'symlink')
    await root.link('symlink', 'symlink2')
    assert.equal((await root.lstat('symlink2')).mode & S_IFMT, S_IFLNK)
    await root.link('symlink', 'followed', AT_SYMLINK_FOLLOW)
    assert.equal((await root.lstat('followed')).mode & S_IFMT, S_IFIFO)
    await root.mkdir('d')
    await assertErrno('EPERM', root.link('d', 'd2'))
  },

  'link over a name that exists is EEXIST, to a missing file ENOENT, across filesystems EXDEV': async ({ root }) => {
    await root.put('a', '')
    await root.put('b', '')
    await assertErrno('EEXIST', root.link('a', 'b'))
    await assertErrno('EEXIST', root.link('a', 'a'))
    await assertErrno('ENOENT', root.link('missing', 'c'))
    await assertErrno('EXDEV', root.link('/proc/self/status', 'c'))
  },

  'a directory counts its subdirectories in nlink': async ({ root }) => {
    await root.mkdir('d')
    assert.equal((await root.stat('d')).nlink, 2)
    await root.mkdir('d/1')
    await root.mkdir('d/2')
    await root.put('d/file', '')
    assert.equal((await root.stat('d')).nlink, 4)
    await root.rename('d/1', 'moved')
    assert.equal((await root.stat('d')).nlink, 3)
    await root.rmdir('d/2')
    assert.equal((await root.stat('d')).nlink, 2)
  },

  'a symlink holds up to 4,095 bytes of any kind, and its size is their number': async ({ root }) => {
    for (const target of ['x', 'not/there', '\x01\xff\xfe', 'x'.repeat(4095)]) {
      await root.symlink(target, 'link')
      assert.equal(await root.readlink('link'), target)
      assert.equal((await root.lstat('link')).size, target.length)
      assert.equal((await root.lstat('link')).mode, S_IFLNK | 0o777)
      await root.unlink('link')
    }
    await assertErrno('ENAMETOOLONG', root.symlink('x'.repeat(4096), 'link'))
    await assertErrno('ENOENT', root.symlink('', 'link'))
    await root.put('file', '')
    await assertErrno('EINVAL', root.readlink('file'))
  },

  'a symlink has an owner and times of its own': async ({ root }) => {
    await root.put('file', '')
    await root.symlink('file', 'link')
    await root.lchown('link', 1001, 1002)
    await root.utimensat('link', [5, 6], [7, 8], 0x100)
    const [link, file] = [await root.lstat('link'), await root.stat('link')]
    assert.deepEqual([link.uid, link.gid, link.atime, link.mtime], [1001, 1002, [5, 6], [7, 8]])
    assert.deepEqual([file.uid, file.gid], [0, 0])
    assert.notDeepEqual(file.mtime, [7, 8])
  },

  'a loop of symlinks is ELOOP': async ({ root }) => {
    await root.symlink('b', 'a')
    await root.symlink('a', 'b')
    await assertErrno('ELOOP', root.stat('a'))
    await assertErrno('ELOOP', root.open('a/file', O_RDONLY))
  },

  'an O_TMPFILE has no name until it is linked by its descriptor': async ({ root }) => {
    for (const give of [
      (fd: number) => root.linkFd(fd, 'named'),
      (fd: number) => root.link(`/proc/self/fd/${String(fd)}`, 'named', AT_SYMLINK_FOLLOW),
    ]) {
      const fd = await root.open('.', O_TMPFILE | O_RDWR, 0o640)
      await root.write(fd, 'content')
      const { nlink, mode, ino } = await root.stat(fd)
      assert.deepEqual([nlink, mode & 0o7777], [0, 0o640])
      assert.deepEqual(await root.listdir('.'), [])
      await give(fd)
      assert.deepEqual([(await root.stat(fd)).nlink, (await root.stat('named')).ino], [1, ino])
      await root.close(fd)
      assert.equal(await root.get('named'), 'content')
      await root.unlink('named')
    }
  },

  'an O_TMPFILE opened with O_EXCL can never be linked': async ({ root }) => {
    const fd = await root.open('.', O_TMPFILE | O_RDWR | O_EXCL, 0o600)
    await assertErrno('ENOENT', root.link(`/proc/self/fd/${String(fd)}`, 'named', AT_SYMLINK_FOLLOW))
    await root.write(fd, 'still usable')
    assert.equal(await root.pread(fd, 100, 6), 'usable')
  },

  'an unlinked file that is open goes through every operation': async ({ root, start }) => {
    const fd = await root.open('f', O_CREAT | O_RDWR, 0o644)
    const { ino } = await root.stat(fd)
    await root.write(fd, 'before')
    await root.unlink('f')
    await assertErrno('ENOENT', root.stat('f'))
    await root.pwrite(fd, ' and after', 6)
    await root.fsync(fd)
    assert.equal(await root.pread(fd, 100, 0), 'before and after')
    await root.ftruncate(fd, 6)
    await root.chmod(fd, 0o600)
    await root.chown(fd, 1001, 1002)
    await root.utimensat(`/proc/self/fd/${String(fd)}`, [1, 2], [3, 4])
    await root.setxattr(fd, 'user.name', 'value')
    assert.equal(await root.getxattr(fd, 'user.name'), 'value')
    assert.deepEqual(await root.listxattr(fd), ['user.name'])
    await root.removexattr(fd, 'user.name')
    const stat = await root.stat(fd)
    assert.deepEqual(
      [stat.ino, stat.nlink, stat.size, stat.mode & 0o777, stat.uid, stat.gid, stat.atime, stat.mtime],
      [ino, 0, 6, 0o600, 1001, 1002, [1, 2], [3, 4]],
    )
    const again = await root.open(`/proc/self/fd/${String(fd)}`, O_RDONLY)
    assert.equal(await root.read(again, 100), 'before')
    await assertErrno('ENOENT', root.link(`/proc/self/fd/${String(fd)}`, 'g', AT_SYMLINK_FOLLOW))
    // A new file of the name is another one, also in another process.
    const other = start()
    await other.put('f', 'new')
    assert.equal(await root.pread(fd, 100, 0), 'before')
    assert.notEqual((await other.stat('f')).ino, ino)
  },

  'an unlinked file is there for as long as one of several processes has it open': async ({ root, start }) => {
    await root.put('f', 'content')
    const [one, other] = [start(), start()]
    const [fdOfOne, fdOfOther] = [await one.open('f', O_RDONLY), await other.open('f', O_RDWR)]
    await root.unlink('f')
    await one.close(fdOfOne)
    assert.equal(await other.read(fdOfOther, 100), 'content')
    await other.ftruncate(fdOfOther, 0)
    await other.lseek(fdOfOther, 0, SEEK_SET)
    await other.write(fdOfOther, 'x'.repeat(200_000))
    await other.fsync(fdOfOther)
    assert.equal((await other.stat(fdOfOther)).size, 200_000)
  },
}
