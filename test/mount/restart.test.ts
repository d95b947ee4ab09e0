/**
 * Promise 2, request by request: a FUSE process is killed at every point of every request, and who asked gets the answer that the
 * first process would have given, once.
 */
import assert from 'node:assert/strict'
import { release } from 'node:os'
import { test } from 'node:test'
import { startProcess, type Process } from '../posix/process.ts'
import { withMount, type MountChoice, type TestMount } from './support.ts'

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
