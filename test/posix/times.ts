/** POSIX table: the three times of an inode, and what moves them. */
import assert from 'node:assert/strict'
import { O_CREAT, O_RDONLY, O_RDWR, O_TMPFILE, O_TRUNC, O_WRONLY, UTIME_NOW, UTIME_OMIT } from './linux.ts'
import { alice, type Cases } from './place.ts'
import { assertErrno, dropCaches, type Time } from './process.ts'
import { assertMoves, isLater } from './time.ts'

const now: Time = [0, UTIME_NOW]
const omit: Time = [0, UTIME_OMIT]

export const times: Cases = {
  'times keep their nanoseconds, before 1970 and after 2038 too': async ({ root }) => {
    await root.put('f', '')
    await root.mkdir('d')
    for (const path of ['f', 'd']) {
      for (const [atime, mtime] of [
        [
          [1, 1],
          [1_700_000_000, 999_999_999],
        ],
        [
          [-2, 500_000_000],
          [-2_000_000_000, 1],
        ],
        [
          [2 ** 31, 5],
          [2 ** 33, 7],
        ],
        [
          [0, 0],
          [-1, 999_999_999],
        ],
      ] as const) {
        await root.utimensat(path, atime, mtime)
        const stat = await root.stat(path)
        assert.deepEqual([stat.atime, stat.mtime], [atime, mtime])
      }
    }
  },

  'a time in the year 9999 is kept': async ({ root }) => {
    await root.put('f', '')
    await root.utimensat('f', [253_402_300_799, 1], [253_402_300_799, 2])
    assert.deepEqual((await root.stat('f')).mtime, [253_402_300_799, 2])
  },

  'UTIME_NOW is now, UTIME_OMIT leaves a time alone': async ({ root }) => {
    await root.put('f', '')
    const { mtime: recent } = await root.stat('f')
    await root.waitTick() // a FUSE server makes inodes by a finer clock than the kernel stamps mtime with
    await root.utimensat('f', [1, 2], [3, 4])
    await root.utimensat('f', omit, [5, 6])
    assert.deepEqual(
      [(await root.stat('f')).atime, (await root.stat('f')).mtime],
      [
        [1, 2],
        [5, 6],
      ],
    )
    await root.utimensat('f', [7, 8], omit)
    assert.deepEqual(
      [(await root.stat('f')).atime, (await root.stat('f')).mtime],
      [
        [7, 8],
        [5, 6],
      ],
    )
    await root.utimensat('f', now, omit)
    assert.ok(!isLater(recent, (await root.stat('f')).atime))
    assert.deepEqual((await root.stat('f')).mtime, [5, 6])
    await root.utimensat('f', [1, 2], now)
    assert.deepEqual((await root.stat('f')).atime, [1, 2])
    assert.ok(!isLater(recent, (await root.stat('f')).mtime))
  },

  'UTIME_OMIT for both does nothing, and needs no permission': async ({ root, start }) => {
    await root.put('f', '')
    const user = start(alice)
    await assertMoves(root, 'f', [], () => user.utimensat('f', omit, omit))
    await assertErrno('EINVAL', root.utimensat('f', [0, 1_000_000_000], [0, 0]))
    await assertErrno('EINVAL', root.utimensat('f', [0, 0], [0, -1]))
  },

  'utimens moves ctime': async ({ root }) => {
    await root.put('f', '')
    await assertMoves(root, 'f', ['ctime'], async () => {
      const { atime, mtime } = await root.stat('f')
      await root.utimensat('f', atime, mtime)
    })
  },

  'a write moves mtime and ctime, one of no bytes neither': async ({ root }) => {
    const fd = await root.open('f', O_RDWR | O_CREAT, 0o644)
    await assertMoves(root, 'f', ['mtime', 'ctime'], () => root.write(fd, 'x'))
    await assertMoves(root, 'f', ['mtime', 'ctime'], () => root.pwrite(fd, 'y', 0))
    await assertMoves(root, 'f', [], () => root.write(fd, ''))
  },

  'a truncation moves mtime and ctime': async ({ root }) => {
    const fd = await root.open('f', O_RDWR | O_CREAT, 0o644)
    await assertMoves(root, 'f', ['mtime', 'ctime'], () => root.ftruncate(fd, 10))
    await assertMoves(root, 'f', ['mtime', 'ctime'], () => root.truncate('f', 3))
    await assertMoves(root, 'f', ['mtime', 'ctime'], async () => root.open('f', O_WRONLY | O_TRUNC))
  },

  'chmod, chown, link and rename move ctime only': async ({ root }) => {
    await root.put('f', 'content')
    await assertMoves(root, 'f', ['ctime'], () => root.chmod('f', 0o600))
    await assertMoves(root, 'f', ['ctime'], () => root.chown('f', 1001, 1001))
    await assertMoves(root, 'f', ['ctime'], () => root.link('f', 'g'))
    await assertMoves(root, 'g', ['ctime'], () => root.rename('f', 'h'))
    await assertMoves(root, 'g', ['ctime'], () => root.unlink('h'))
  },

  'an open file that was removed keeps the times it was given': async ({ root }) => {
    const fd = await root.open('f', O_RDWR | O_CREAT, 0o644)
    await root.write(fd, 'x')
    await root.unlink('f')
    for (const second of [5, 7]) {
      await root.utimensat(`/proc/self/fd/${String(fd)}`, [second, 0], [second + 1, 0])
      await root.fsync(fd)
      await dropCaches(root)
      const { atime, mtime } = await root.stat(fd)
      assert.deepEqual([atime, mtime], [[second, 0], [second + 1, 0]]) // prettier-ignore
    }
  },

  'a file made without a name keeps the times it was given when it gets one': async ({ root }) => {
    const fd = await root.open('.', O_TMPFILE | O_RDWR, 0o644)
    await root.write(fd, 'x')
    await root.utimensat(`/proc/self/fd/${String(fd)}`, [1, 2], [3, 4])
    await root.fsync(fd)
    await root.linkFd(fd, 'named')
    await root.close(fd)
    await dropCaches(root)
    const { atime, mtime } = await root.stat('named')
    assert.deepEqual([atime, mtime], [[1, 2], [3, 4]]) // prettier-ignore
  },

  'what was written before utimens does not move mtime afterwards': async ({ root }) => {
    const fd = await root.open('f', O_WRONLY | O_CREAT, 0o644)
    await root.write(fd, 'x'.repeat(300_000))
    await root.utimensat('f', [11, 12], [13, 14])
    await root.fsync(fd)
    await root.close(fd)
    const { atime, mtime } = await root.stat('f')
    assert.deepEqual(
      [atime, mtime],
      [
        [11, 12],
        [13, 14],
      ],
    )
  },

  'mtime is the last write’s, also after an fsync and a close later on': async ({ root, start }) => {
    const fd = await root.open('f', O_WRONLY | O_CREAT, 0o644)
    await root.write(fd, 'x')
    const { mtime } = await root.stat('f')
    await root.fsync(fd)
    assert.deepEqual((await root.stat('f')).mtime, mtime)
    await root.close(fd)
    assert.deepEqual((await start().stat('f')).mtime, mtime)
  },

  'reading moves no time: atime is moved by utimens only': async ({ root }) => {
    await root.put('f', 'content')
    await root.mkdir('d')
    await root.symlink('f', 'l')
    // Where reads count, relatime counts this one: atime is older than mtime.
    for (const path of ['f', 'd', 'l']) await root.utimensat(path, [1, 0], [2, 0], 0x100)
    await assertMoves(root, 'f', [], async () => root.read(await root.open('f', O_RDONLY), 100))
    await assertMoves(root, 'd', [], () => root.listdir('d'))
    await assertMoves(root, 'l', [], () => root.readlink('l'))
  },

  'a new inode has all its times from the moment it was made': async ({ root }) => {
    await root.put('before', '')
    await root.mkdir('d')
    await root.symlink('x', 'l')
    await root.mkfifo('p')
    const { ctime } = await root.stat('before')
    for (const name of ['d', 'l', 'p']) {
      const stat = await root.lstat(name)
      assert.deepEqual([stat.atime, stat.mtime], [stat.ctime, stat.ctime], name)
      assert.ok(!isLater(ctime, stat.ctime), name)
    }
  },
}
