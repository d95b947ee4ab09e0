/**
 * Promise 2, request by request: a FUSE process is killed at every point of every request, and who asked gets the answer that the
 * first process would have given, once.
 */
import assert from 'node:assert/strict'
import Database from 'better-sqlite3'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { statfs } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { Volume, createVolumeFile, settleVolumeFile } from '../../src/engine/index.ts'
import { assertErrno, startProcess, type Process } from '../posix/process.ts'
import { assertClean, makeFile, until, withFolder } from '../support.ts'
import { restarted, withFailpoints } from './failpoints.ts'
import { cases, type Case } from './restart-cases.ts'
import { mountFile, shell, untilDead, type TestMount } from './support.ts'

const root = { uid: 0, gid: 0, groups: [], umask: 0o22 }

const O_RDWR = 2
const O_CREAT = 0o100
const O_PATH = 0o10000000
const SEEK_DATA = 3
const LOCK_EX = 2
const LOCK_NB = 4
const MAP_SHARED = 1
const PROT_READ_WRITE = 3

/** Long enough for any of these tests on a busy machine; who waits for an answer that never comes fails. */
const limit = { timeout: 90_000 }

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

/** How many threads of Node's own kind a process has beside the first: the serving thread, and its helpers. */
function countWorkers(pid: number): number {
  try {
    const names = readdirSync(`/proc/${String(pid)}/task`).map((id) => readFileSync(`/proc/${String(pid)}/task/${id}/comm`, 'utf8'))
    return names.filter((name) => name === 'WorkerThread\n').length
  } catch {
    return 0 // it was killed
  }
}

test('killed while requests are read ahead: what was written is there, each byte', limit, () =>
  withFailpoints(['WRITE:received:70', 'WRITE:working:50', 'WRITE:committed:50', 'WRITE:answered:50'], async (mount) => {
    const source = join(mount.mountpoint, '../source')
    await shell('head -c "$((240 << 20))" /dev/urandom > "$1"', source)
    let isWritten = false
    let most = 0
    const watched = (async () => {
      for (; !isWritten; await sleep(5)) most = Math.max(most, countWorkers(mount.pid))
    })()
    await shell('dd if="$1" of="$2" bs=1M conv=fsync status=none', source, join(mount.mountpoint, 'large'))
    isWritten = true
    await watched
    const { flags } = await mount.event('ready')
    const helpers = [availableParallelism() > 1, availableParallelism() > 1 && flags.includes('HAS_RESEND')].filter((has) => has).length
    // One where there are two CPUs, two where the kernel can resend; those of the last process have not ended.
    await until('the helpers are there', () => countWorkers(mount.pid) === 1 + helpers)
    assert.ok(most <= 1 + helpers)
    await shell('cmp "$1" "$2"', source, join(mount.mountpoint, 'large'))
  }),
)

test('a process whose serving thread fails ends at once, though another of its threads waits for a request', limit, async () => {
  for (const megabytes of [90, 91]) {
    const work = async ({ mountpoint }: TestMount): Promise<void> => {
      const [source, large] = [join(mountpoint, '../source'), join(mountpoint, 'large')]
      await shell('head -c "$(($1 << 20))" /dev/urandom > "$2"', String(megabytes), source)
      await shell('timeout 60 dd if="$1" of="$2" bs=1M oflag=direct conv=fsync status=none', source, large)
      await shell('cmp "$1" "$2"', source, large)
    }
    await withFailpoints(['WRITE:fault:90'], work, { logLevel: 'silent' })
  }
})

test('a request done before two deaths is not done again, although other requests were committed between them', limit, () =>
  withFailpoints(['MKDIR:committed:1', 'MKDIR:received:1'], async (mount, p) => {
    const other = startProcess(mount.mountpoint, root)
    try {
      await p.put('orphan', 'x'.repeat(10_000))
      const fd = await other.open('orphan', O_PATH)
      await p.unlink('orphan')
      const made = p.mkdir('made')
      await untilDead(mount, mount.pid)
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
          await statfs(mount.mountpoint) // a few small ones wait for others, or for this
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

test('a removed file whose FORGET died with a process goes, and one that is referred to stays', limit, () =>
  withFailpoints(['FORGET:received:1'], async (mount, p) => {
    const other = startProcess(mount.mountpoint, root)
    const database = new Database(mount.file, { readonly: true })
    const orphans = (): unknown => database.prepare('SELECT count(*) FROM orphans').pluck().get()
    /** Each turn lets the kernel forget a file. */
    const untilOrphans = async (count: number): Promise<void> => {
      const deadline = Date.now() + 30_000
      while (orphans() !== count) {
        assert.ok(Date.now() < deadline, `${String(orphans())} orphans instead of ${String(count)}`)
        await p.put('passing', '')
        await p.unlink('passing')
      }
    }
    try {
      await p.put('lost', 'x'.repeat(10_000))
      await p.put('kept', 'y'.repeat(10_000))
      const [lost, kept] = [await p.open('lost', O_PATH), await other.open('kept', O_PATH)]
      await p.unlink('lost')
      await p.unlink('kept')
      await p.close(lost)
      await restarted(mount, 1)
      assert.equal(orphans(), 2)
      for (let i = 0; i < 10_000; i++) await statfs(mount.mountpoint) // the serving thread's event loop turns meanwhile
      await untilOrphans(1)
      assert.equal((await other.stat(`/proc/self/fd/${String(kept)}`)).size, 10_000)
      await other.close(kept)
      await untilOrphans(0)
    } finally {
      database.close()
      await other.stop()
    }
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

test('a process that dies before it serves counts as replaced too', limit, () =>
  withFailpoints(
    ['', 'nonsense', 'nonsense'],
    async (mount) => {
      await kill(mount)
      const ready = mount.events.findLast((event) => event.type === 'ready')
      assert.deepEqual([ready?.generation, ready?.restarts], [4, 3])
    },
    { logLevel: 'silent' },
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
