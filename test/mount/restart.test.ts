/**
 * Promise 2, request by request: a FUSE process is killed at every point of every request, and who asked gets the answer that the
 * first process would have given, once.
 */
import assert from 'node:assert/strict'
import Database from 'better-sqlite3'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Volume, createVolumeFile, settleVolumeFile } from '../../src/engine/index.ts'
import { identifyProcess, isRunning } from '../../src/manager/process-identity.ts'
import { assertErrno, startProcess, type Process } from '../posix/process.ts'
import { assertClean, makeFile, withFolder } from '../support.ts'
import { mountFile, shell, withMount, type MountChoice, type TestMount } from './support.ts'

const root = { uid: 0, gid: 0, groups: [], umask: 0o22 }

const O_RDWR = 2
const O_CREAT = 0o100
const O_EXCL = 0o200
const O_TRUNC = 0o1000
const O_DIRECT = 0o40000
const O_PATH = 0o10000000
const O_TMPFILE = 0o20200000
const XATTR_CREATE = 1
const RENAME_NOREPLACE = 1
const RENAME_EXCHANGE = 2
const SEEK_DATA = 3
const PUNCH_HOLE = 3 // with KEEP_SIZE
const LOCK_EX = 2
const LOCK_NB = 4
const MAP_SHARED = 1
const PROT_READ_WRITE = 3

/** What copy_file_range(2) sends: the 64-bit form is of Linux 6.18 (protocol 7.45). */
const [major = 0, minor = 0] = release().split('.').map(Number)
const copyOpcode = major > 6 || (major === 6 && minor >= 18) ? 'COPY_FILE_RANGE_64' : 'COPY_FILE_RANGE'

/** Long enough for any of these tests on a busy machine; who waits for an answer that never comes fails. */
const limit = { timeout: 90_000 }

/** One changing request: what is there before, what sends the request, and what is there after it was done once. Names end in `n`. */
interface Case {
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

const cases: readonly Case[] = [
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

/** Runs `work` on a mount whose processes have these failpoints, one for each generation; all of them must have been reached. */
async function withFailpoints(
  failpoints: readonly string[],
  work: (mount: TestMount, p: Process) => Promise<void>,
  choice: MountChoice = {},
  environment: Readonly<Record<string, string>> = {},
): Promise<void> {
  const set = { ...environment, LITEVOL_FAILPOINT: failpoints.join(',') }
  const unset = (): void => {
    for (const name of Object.keys(set)) Reflect.deleteProperty(process.env, name)
  }
  Object.assign(process.env, set)
  try {
    await withMount(
      async (mount) => {
        unset()
        const p = startProcess(mount.mountpoint, root)
        try {
          await work(mount, p)
          await restarted(mount, failpoints.filter((failpoint) => failpoint !== '').length)
        } finally {
          await p.stop()
        }
      },
      { mode: 'cold', ...choice },
    )
  } finally {
    unset()
  }
}

/** Waits until the successor of so many processes serves. */
async function restarted(mount: TestMount, times: number): Promise<void> {
  await mount.until((event): event is Extract<typeof event, { type: 'ready' }> => event.type === 'ready' && event.generation > times)
}

/**
 * The failpoints of one case: each point by a request of its own, where one that is sent again counts once more; then one request
 * that is killed three times, the second and third time while it is served again.
 */
function failpointsOf({ opcode, isReading = false }: Case): string[] {
  const single = isReading ? ['received:1', 'committed:2', 'answered:2'] : ['received:1', 'working:2', 'committed:2', 'answered:2']
  return [...single, 'committed:1', 'received:1', 'committed:1'].map((point) => `${opcode}:${point}`)
}

/** Runs a case once for each of its requests, and looks at the result once more at the end. */
async function runCase(one: Case, mount: TestMount, p: Process): Promise<void> {
  const deaths = one.isReading === true ? [1, 2, 3, 6] : [1, 2, 3, 4, 7]
  const prepared = []
  for (const times of deaths) prepared.push({ times, n: String(times), things: await one.prepare?.(p, String(times)) })
  for (const { times, n, things } of prepared) {
    const acted = await one.act(p, n, things)
    await restarted(mount, times)
    await one.check(p, n, acted)
  }
}

for (const one of cases) {
  const { opcode, title } = one
  test(`killed at each point of ${opcode}: ${title}`, limit, () => withFailpoints(failpointsOf(one), (mount, p) => runCase(one, mount, p)))
}

/** Without FUSE_NOTIFY_RESEND all goes the same way: a few stand for it. */
const copied: readonly string[] = ['MKDIR', 'CREATE', 'RENAME2', 'WRITE', 'OPEN', 'RELEASE']

for (const one of cases.filter(({ opcode }) => copied.includes(opcode)))
  test(`killed at each point of ${one.opcode}, served again from a copy: ${one.title}`, limit, () =>
    withFailpoints(failpointsOf(one), (mount, p) => runCase(one, mount, p), {}, { LITEVOL_RESEND: 'off' }),
  )

test('a request done before two deaths is not done again, although other requests were committed between them', limit, () =>
  withFailpoints(['MKDIR:committed:1', 'MKDIR:received:1'], async (mount, p) => {
    const other = startProcess(mount.mountpoint, root)
    try {
      await p.put('orphan', 'x'.repeat(10_000))
      const fd = await other.open('orphan', O_PATH)
      await p.unlink('orphan')
      const made = p.mkdir('made')
      await dead(mount, mount.pid)
      await other.close(fd) // its FORGET removes the orphan, and is read before what is sent again
      await made
      assert.equal((await p.stat('made')).nlink, 2)
    } finally {
      await other.stop()
    }
  }),
)

test('lseek for data waits for pages that only the successor can take', limit, async () => {
  for (const environment of [{}, { LITEVOL_RESEND: 'off' }])
    await withFailpoints(
      ['WRITE:received:1'],
      async (_mount, p) => {
        const fd = await p.open('sparse', O_RDWR | O_CREAT, 0o644)
        await p.ftruncate(fd, 1 << 30)
        await p.pwrite(fd, 'data', 1 << 20)
        assert.equal(await p.lseek(fd, 0, SEEK_DATA), 1 << 20)
        await p.close(fd)
      },
      {},
      environment,
    )
})

test('a directory that is read while processes die is listed whole, each name once', limit, () =>
  withFailpoints(['', 'READDIRPLUS:received:2', 'READDIRPLUS:committed:2', 'READDIR:received:1'], async (mount, p) => {
    await p.mkdir('many')
    await p.make('many', 'file', 0, 3000)
    await kill(mount)
    for (let times = 0; times < 3; times++) {
      await shell('echo 2 > /proc/sys/vm/drop_caches')
      const found = await p.listdir('many')
      assert.equal(found.length, 3000)
      assert.equal(new Set(found).size, 3000)
    }
  }),
)

test('what a predecessor has not told the kernel of is removed with its last name', limit, () =>
  withFolder(async (folder) => {
    const file = join(folder, 'volume.sqlite')
    createVolumeFile(file)
    const volume = Volume.open(file)
    for (let i = 0; i < 10; i++) makeFile(volume, volume.root, `old-${String(i)}`, 'content')
    volume.close()
    mkdirSync(join(folder, 'mount'))
    const mount = await mountFile(file, join(folder, 'mount'), { mode: 'cold' })
    try {
      await kill(mount)
      await shell('rm "$1"/old-*', mount.mountpoint)
      const database = new Database(file, { readonly: true })
      try {
        const deadline = Date.now() + 30_000
        while (Number(database.prepare('SELECT count(*) FROM inodes').pluck().get()) > 1) {
          assert.ok(Date.now() < deadline, 'the removed files still take space')
          await sleep(20)
        }
      } finally {
        database.close()
      }
    } finally {
      await mount.stop()
    }
    assertClean(file)
  }),
)

test('open, locked, mapped and removed files stay so over a restart', limit, () =>
  withFailpoints([], async (mount, p) => {
    const other = startProcess(mount.mountpoint, root)
    try {
      const fd = await p.open('held', O_RDWR | O_CREAT, 0o644)
      await p.ftruncate(fd, 8192)
      await p.flock(fd, LOCK_EX)
      const address = await p.mmap(fd, 8192, MAP_SHARED, PROT_READ_WRITE)
      await p.poke(address, 'before')
      const removed = await p.open('removed', O_RDWR | O_CREAT, 0o644)
      await p.write(removed, 'removed')
      await p.unlink('removed')
      for (let times = 0; times < 3; times++) await kill(mount)
      await p.poke(address + 4096, 'after')
      await p.msync(address, 8192)
      await assertErrno(
        'EAGAIN',
        other.open('held', O_RDWR).then((rival) => other.flock(rival, LOCK_EX | LOCK_NB)),
      )
      assert.deepEqual([(await other.get('held')).slice(0, 6), (await other.get('held')).slice(4096, 4101)], ['before', 'after'])
      assert.equal(await p.pread(removed, 100, 0), 'removed')
      await p.close(removed)
      assert.deepEqual(await p.listdir('.'), ['held'])
    } finally {
      await other.stop()
    }
  }),
)

test('a request that ends every process is answered with EIO, and the mount goes on', limit, () =>
  withFailpoints(
    Array.from({ length: 4 }, () => 'MKDIR:working:1'),
    async (_mount, p) => {
      await assertErrno('EIO', p.mkdir('poison'))
      await p.mkdir('food')
      assert.deepEqual(await p.listdir('.'), ['food'])
    },
  ),
)

test('a mount whose processes all die at once ends with errors for its consumers', limit, () =>
  withFolder(async (folder) => {
    const file = join(folder, 'volume.sqlite')
    createVolumeFile(file)
    mkdirSync(join(folder, 'mount'))
    process.env['LITEVOL_FAILPOINT'] = `,${'nonsense,'.repeat(20)}`
    const mount = await mountFile(file, join(folder, 'mount'), { mode: 'cold', logLevel: 'silent' })
    Reflect.deleteProperty(process.env, 'LITEVOL_FAILPOINT')
    const p = startProcess(mount.mountpoint, root)
    try {
      process.kill(mount.pid, 'SIGKILL')
      await assert.rejects(p.mkdir('a'), /connect/i)
      assert.equal(await mount.ended(), 1)
    } finally {
      await p.stop()
      await shell('umount -l "$1"', mount.mountpoint)
    }
    await settleVolumeFile(file, { ownerTimeoutMs: 10_000 })
    assertClean(file)
  }),
)

test('without its keeper a process serves on, and its death ends the mount', limit, async () => {
  for (const mode of ['cold', 'standby'] as const)
    await withFolder(async (folder) => {
      const file = join(folder, 'volume.sqlite')
      createVolumeFile(file)
      mkdirSync(join(folder, 'mount'))
      const mount = await mountFile(file, join(folder, 'mount'), { mode })
      const p = startProcess(mount.mountpoint, root)
      try {
        await kill(mount)
        const { pid } = mount
        process.kill(mount.keeper.pid, 'SIGKILL')
        await mount.ended()
        await p.put('a', 'still here')
        process.kill(pid, 'SIGKILL')
        await assert.rejects(p.mkdir('b'), /connect/i)
      } finally {
        await p.stop()
        await shell('umount -l "$1"', mount.mountpoint)
      }
      await settleVolumeFile(file, { ownerTimeoutMs: 10_000 })
      assertClean(file)
    })
})

test('a mount is served on when nobody reads its log any more', limit, () =>
  withFolder(async (folder) => {
    const file = join(folder, 'volume.sqlite')
    createVolumeFile(file)
    mkdirSync(join(folder, 'mount'))
    const log = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] })
    await once(log, 'spawn')
    const mount = await mountFile(file, join(folder, 'mount'), { mode: 'cold', logLevel: 'info', errors: log.stdin })
    log.kill('SIGKILL')
    await once(log, 'exit')
    try {
      for (let times = 0; times < 3; times++) await kill(mount)
    } finally {
      await mount.stop()
    }
    assertClean(file)
  }),
)

/** Kills the process that serves and waits for its successor. */
async function kill(mount: TestMount): Promise<void> {
  const { pid } = mount
  process.kill(pid, 'SIGKILL')
  await mount.until(
    (event): event is Extract<typeof event, { type: 'ready' }> => event.type === 'ready' && event.pid > 0 && mount.pid !== pid,
  )
}

/** Waits until a process is gone. */
async function dead(mount: TestMount, pid: number): Promise<void> {
  const identity = identifyProcess(pid)
  while (identity !== undefined && isRunning(identity)) {
    assert.ok(mount.isAlive)
    await sleep(1)
  }
}
