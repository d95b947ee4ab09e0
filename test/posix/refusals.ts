/** POSIX table: bad input gets the right errno. */
import assert from 'node:assert/strict'
import { O_CREAT, O_PATH, O_RDONLY, O_RDWR, O_WRONLY, SEEK_CUR, SEEK_END, SEEK_SET } from './linux.ts'
import type { Cases } from './place.ts'
import { assertErrno } from './process.ts'

export const refusals: Cases = {
  'a descriptor that is closed or opened otherwise is EBADF': async ({ root }) => {
    const closed = await root.open('f', O_RDWR | O_CREAT, 0o644)
    await root.close(closed)
    for (const call of [root.fsync(closed), root.read(closed, 1), root.write(closed, 'x'), root.stat(closed), root.close(closed)]) {
      await assertErrno('EBADF', call)
    }
    const [reading, writing, path] = [await root.open('f', O_RDONLY), await root.open('f', O_WRONLY), await root.open('f', O_PATH)]
    await assertErrno('EBADF', root.write(reading, 'x'))
    await assertErrno('EBADF', root.read(writing, 1))
    await assertErrno('EBADF', root.read(path, 1))
    await assertErrno('EBADF', root.chmod(path, 0o600))
    await assertErrno('EINVAL', root.ftruncate(reading, 0))
  },

  'negative offsets and sizes are EINVAL': async ({ root }) => {
    await root.put('f', 'content')
    const fd = await root.open('f', O_RDWR)
    await assertErrno('EINVAL', root.pread(fd, 1, -1))
    await assertErrno('EINVAL', root.pwrite(fd, 'x', -1))
    await assertErrno('EINVAL', root.lseek(fd, -1, SEEK_SET))
    await assertErrno('EINVAL', root.lseek(fd, -8, SEEK_END))
    await assertErrno('EINVAL', root.lseek(fd, -1, SEEK_CUR))
    await assertErrno('EINVAL', root.lseek(fd, 0, 99))
    await assertErrno('EINVAL', root.truncate('f', -1))
    await assertErrno('EINVAL', root.ftruncate(fd, -1))
    assert.equal(await root.get('f'), 'content')
  },

  'reading at and past the end gives nothing': async ({ root }) => {
    await root.put('f', 'content')
    const fd = await root.open('f', O_RDONLY)
    for (const offset of [7, 8, 1_000_000, 2 ** 43]) assert.equal(await root.pread(fd, 10, offset), '')
    assert.equal(await root.pread(fd, 10, 6), 't')
    assert.equal(await root.lseek(fd, 1_000_000, SEEK_SET), 1_000_000)
    assert.equal(await root.read(fd, 10), '')
  },

  'a path through a file is ENOTDIR, through nothing ENOENT': async ({ root }) => {
    await root.put('f', '')
    for (const call of [root.stat, root.mkdir, root.unlink, root.rmdir, root.readlink, root.get]) {
      await assertErrno('ENOTDIR', call('f/x'))
      await assertErrno('ENOENT', call('missing/x'))
    }
    await assertErrno('ENOTDIR', root.rename('f', 'f/x'))
    await assertErrno('ENOENT', root.rename('f', 'missing/x'))
    await assertErrno('ENOENT', root.rename('missing', 'x'))
    await assertErrno('ENOTDIR', root.listdir('f'))
  },

  '. and .. are neither renamed nor removed': async ({ root }) => {
    await root.mkdir('d')
    await root.mkdir('d/e')
    await assertErrno('EBUSY', root.rename('d/.', 'x'))
    await assertErrno('EBUSY', root.rename('d/e/..', 'x'))
    await assertErrno('EBUSY', root.rename('d', 'd/e/.'))
    await assertErrno('EISDIR', root.unlink('d/.'))
    await assertErrno('EINVAL', root.rmdir('d/.'))
    await assertErrno('EEXIST', root.mkdir('d/..'))
  },

  'truncation is for regular files': async ({ root }) => {
    await root.mkdir('d')
    await root.mkfifo('p')
    await assertErrno('EISDIR', root.truncate('d', 0))
    await assertErrno('EINVAL', root.truncate('p', 0))
    await assertErrno('ENOENT', root.truncate('missing', 0))
  },

  'a fifo has no position': async ({ root }) => {
    await root.mkfifo('p')
    const fd = await root.open('p', O_RDWR)
    await assertErrno('ESPIPE', root.lseek(fd, 0, SEEK_SET))
    await assertErrno('ESPIPE', root.pread(fd, 1, 0))
    await assertErrno('EINVAL', root.ftruncate(fd, 0))
  },

  'a socket cannot be opened by its name': async ({ root }) => {
    await root.bind('s')
    await assertErrno('ENXIO', root.open('s', O_RDONLY))
  },
}
