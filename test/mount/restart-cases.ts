/**
 * The requests that change something, for the tests of killed FUSE processes: what sends each, and what it must have done, once.
 * Keeps: each works with names of its own, so that one mount serves many. Leaves: the killing to restart.test.ts.
 */
import assert from 'node:assert/strict'
import { release } from 'node:os'
import type { Process } from '../posix/process.ts'

const O_RDWR = 2
const O_CREAT = 0o100
const O_EXCL = 0o200
const O_TRUNC = 0o1000
const O_DIRECT = 0o40000
const O_TMPFILE = 0o20200000
const XATTR_CREATE = 1
const RENAME_NOREPLACE = 1
const RENAME_EXCHANGE = 2
const PUNCH_HOLE = 3 // with KEEP_SIZE

/** What copy_file_range(2) sends: the 64-bit form is of Linux 6.18 (protocol 7.45). */
const [major = 0, minor = 0] = release().split('.').map(Number)
const copyOpcode = major > 6 || (major === 6 && minor >= 18) ? 'COPY_FILE_RANGE_64' : 'COPY_FILE_RANGE'

/** One changing request: what is there before, what sends the request, and what is there after it was done once. Names end in `n`. */
export interface Case {
  readonly opcode: string
  readonly title: string
  /** It has no transaction, so there is nothing to be killed in. */
  readonly isReading?: boolean
  prepare?(p: Process, n: string): Promise<unknown>
  act(p: Process, n: string, prepared: unknown): Promise<unknown>
  check(p: Process, n: string, acted: unknown): Promise<void>
}

async function isGone(p: Process, path: string): Promise<void> {
  await assert.rejects(p.lstat(path), /ENOENT|No such file/)
}

export const cases: readonly Case[] = [
  {
    opcode: 'MKDIR',
    title: 'mkdir makes one directory',
    act: (p, n) => p.mkdir(`d${n}`, 0o750),
    check: async (p, n) => {
      assert.deepEqual([(await p.stat(`d${n}`)).mode & 0o7777, (await p.stat(`d${n}`)).nlink], [0o750, 2])
    },
  },
  {
    opcode: 'RMDIR',
    title: 'rmdir removes it',
    prepare: (p, n) => p.mkdir(`rd${n}`),
    act: (p, n) => p.rmdir(`rd${n}`),
    check: (p, n) => isGone(p, `rd${n}`),
  },
  {
    opcode: 'CREATE',
    title: 'an exclusive create is no EEXIST, and its handle works',
    act: (p, n) => p.open(`c${n}`, O_RDWR | O_CREAT | O_EXCL, 0o640),
    check: async (p, n, fd) => {
      await p.write(Number(fd), 'created')
      await p.fsync(Number(fd))
      assert.equal((await p.stat(`c${n}`)).nlink, 1)
      await p.close(Number(fd))
      assert.equal(await p.get(`c${n}`), 'created')
    },
  },
  {
    opcode: 'MKNOD',
    title: 'mknod makes one fifo',
    act: (p, n) => p.mkfifo(`p${n}`),
    check: async (p, n) => {
      assert.equal((await p.lstat(`p${n}`)).mode >> 12, 1)
    },
  },
  {
    opcode: 'SYMLINK',
    title: 'symlink makes one link',
    act: (p, n) => p.symlink(`target-${n}`, `s${n}`),
    check: async (p, n) => {
      assert.equal(await p.readlink(`s${n}`), `target-${n}`)
    },
  },
  {
    opcode: 'LINK',
    title: 'link counts once',
    prepare: (p, n) => p.put(`l${n}`, 'linked'),
    act: (p, n) => p.link(`l${n}`, `m${n}`),
    check: async (p, n) => {
      assert.equal((await p.stat(`m${n}`)).nlink, 2)
      assert.equal(await p.get(`m${n}`), 'linked')
    },
  },
  {
    opcode: 'UNLINK',
    title: 'unlink counts once',
    prepare: async (p, n) => {
      await p.put(`u${n}`, 'unlinked')
      await p.link(`u${n}`, `v${n}`)
    },
    act: (p, n) => p.unlink(`u${n}`),
    check: async (p, n) => {
      await isGone(p, `u${n}`)
      assert.equal((await p.stat(`v${n}`)).nlink, 1)
    },
  },
  {
    opcode: 'RENAME',
    title: 'rename replaces once',
    prepare: async (p, n) => {
      await p.put(`ra${n}`, 'new')
      await p.put(`rb${n}`, 'old')
    },
    act: (p, n) => p.rename(`ra${n}`, `rb${n}`),
    check: async (p, n) => {
      await isGone(p, `ra${n}`)
      assert.equal(await p.get(`rb${n}`), 'new')
    },
  },
  {
    opcode: 'RENAME2',
    title: 'an exchange is not undone',
    prepare: async (p, n) => {
      await p.put(`xa${n}`, 'a')
      await p.put(`xb${n}`, 'b')
    },
    act: (p, n) => p.renameat2(`xa${n}`, `xb${n}`, RENAME_EXCHANGE),
    check: async (p, n) => {
      assert.deepEqual([await p.get(`xa${n}`), await p.get(`xb${n}`)], ['b', 'a'])
    },
  },
  {
    opcode: 'RENAME2',
    title: 'a rename without replacing is no EEXIST',
    prepare: (p, n) => p.put(`na${n}`, 'a'),
    act: (p, n) => p.renameat2(`na${n}`, `nb${n}`, RENAME_NOREPLACE),
    check: async (p, n) => {
      assert.equal(await p.get(`nb${n}`), 'a')
    },
  },
  {
    opcode: 'SETXATTR',
    title: 'setxattr that creates is no EEXIST',
    prepare: (p, n) => p.put(`e${n}`, ''),
    act: (p, n) => p.setxattr(`e${n}`, 'user.a', 'value', XATTR_CREATE),
    check: async (p, n) => {
      assert.equal(await p.getxattr(`e${n}`, 'user.a'), 'value')
    },
  },
  {
    opcode: 'REMOVEXATTR',
    title: 'removexattr is no ENODATA',
    prepare: async (p, n) => {
      await p.put(`f${n}`, '')
      await p.setxattr(`f${n}`, 'user.a', 'value')
    },
    act: (p, n) => p.removexattr(`f${n}`, 'user.a'),
    check: async (p, n) => {
      assert.deepEqual(await p.listxattr(`f${n}`), [])
    },
  },
  {
    opcode: 'SETATTR',
    title: 'chmod and chown arrive',
    prepare: (p, n) => p.mknod(`g${n}`, 0o100644),
    act: (p, n) => p.chown(`g${n}`, 7, 8),
    check: async (p, n) => {
      const { uid, gid } = await p.stat(`g${n}`)
      assert.deepEqual([uid, gid], [7, 8])
    },
  },
  {
    opcode: 'SETATTR',
    title: 'truncate sets the size',
    prepare: (p, n) => p.mknod(`h${n}`, 0o100644),
    act: (p, n) => p.truncate(`h${n}`, 5000),
    check: async (p, n) => {
      assert.equal(await p.get(`h${n}`), '\0'.repeat(5000))
    },
  },
  {
    opcode: 'OPEN',
    title: 'open that truncates gives one handle, and what is written after it stays',
    prepare: (p, n) => p.put(`o${n}`, 'old content'),
    act: (p, n) => p.open(`o${n}`, O_RDWR | O_TRUNC),
    check: async (p, n, fd) => {
      await p.write(Number(fd), 'new')
      await p.fsync(Number(fd))
      assert.deepEqual([await p.pread(Number(fd), 100, 0), (await p.stat(`o${n}`)).size], ['new', 3])
    },
  },
  {
    opcode: 'WRITE',
    title: 'written pages arrive whole at fsync',
    prepare: (p, n) => p.open(`w${n}`, O_RDWR | O_CREAT, 0o644),
    act: async (p, _n, fd) => {
      await p.write(Number(fd), 'w'.repeat(70_000))
      await p.fsync(Number(fd))
      return fd
    },
    check: async (p, n, fd) => {
      await p.close(Number(fd))
      assert.equal(await p.get(`w${n}`), 'w'.repeat(70_000))
    },
  },
  {
    opcode: 'WRITE',
    title: 'a direct write arrives once',
    prepare: (p, n) => p.open(`wd${n}`, O_RDWR | O_CREAT | O_DIRECT, 0o644),
    act: async (p, _n, fd) => {
      assert.equal(await p.pwriteDirect(Number(fd), 'd'.repeat(8192), 4096), 8192)
      return fd
    },
    check: async (p, n, fd) => {
      await p.close(Number(fd))
      assert.equal(await p.get(`wd${n}`), '\0'.repeat(4096) + 'd'.repeat(8192))
    },
  },
  {
    opcode: 'FSYNC',
    title: 'fsync is done',
    isReading: true,
    prepare: (p, n) => p.open(`y${n}`, O_RDWR | O_CREAT, 0o644),
    act: async (p, _n, fd) => {
      await p.write(Number(fd), 'synced')
      await p.fsync(Number(fd))
      return fd
    },
    check: async (p, n, fd) => {
      await p.close(Number(fd))
      assert.equal(await p.get(`y${n}`), 'synced')
    },
  },
  {
    opcode: 'FALLOCATE',
    title: 'a punched hole is one, and the bytes beside it stay',
    prepare: async (p, n) => {
      const fd = await p.open(`k${n}`, O_RDWR | O_CREAT, 0o644)
      await p.write(fd, 'k'.repeat(12_288))
      await p.fsync(fd)
      return fd
    },
    act: async (p, _n, fd) => {
      await p.fallocate(Number(fd), PUNCH_HOLE, 4096, 4096)
      return fd
    },
    check: async (p, n, fd) => {
      await p.close(Number(fd))
      assert.equal(await p.get(`k${n}`), 'k'.repeat(4096) + '\0'.repeat(4096) + 'k'.repeat(4096))
    },
  },
  {
    opcode: copyOpcode,
    title: 'copy_file_range copies once',
    prepare: async (p, n) => {
      await p.put(`q${n}`, 'q'.repeat(9000))
      return [await p.open(`q${n}`, 0), await p.open(`t${n}`, O_RDWR | O_CREAT, 0o644)]
    },
    act: async (p, _n, prepared) => {
      const [source, target] = prepared as [number, number]
      assert.equal(await p.copyFileRange(source, target, 9000, 0, 100), 9000)
      return prepared
    },
    check: async (p, n, prepared) => {
      for (const fd of prepared as number[]) await p.close(fd)
      assert.equal(await p.get(`t${n}`), '\0'.repeat(100) + 'q'.repeat(9000))
    },
  },
  {
    opcode: 'TMPFILE',
    title: 'a file without a name is one, and can be linked',
    act: (p) => p.open('.', O_TMPFILE | O_RDWR, 0o600),
    check: async (p, n, fd) => {
      await p.write(Number(fd), 'unnamed')
      await p.linkFd(Number(fd), `z${n}`)
      await p.close(Number(fd))
      assert.deepEqual([await p.get(`z${n}`), (await p.stat(`z${n}`)).nlink], ['unnamed', 1])
    },
  },
  {
    opcode: 'RELEASE',
    title: 'close of an unlinked file gives back its handle only',
    isReading: true,
    prepare: async (p, n) => {
      const other = await p.open(`other${n}`, O_RDWR | O_CREAT, 0o644)
      const fd = await p.open(`gone${n}`, O_RDWR | O_CREAT, 0o644)
      await p.unlink(`gone${n}`)
      return [fd, other]
    },
    act: async (p, _n, prepared) => {
      await p.close((prepared as number[])[0] ?? -1)
      return prepared
    },
    check: async (p, n, prepared) => {
      const [, other] = prepared as [number, number]
      await p.write(other, 'open')
      await p.fsync(other)
      assert.equal(await p.get(`other${n}`), 'open')
    },
  },
]
