/**
 * Without FUSE_NOTIFY_RESEND (Linux before 6.9) a request that was read and not yet copied dies with its process: who asked gets
 * EIO, and nobody waits for ever.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { createInterface } from 'node:readline'
import { assertErrno, startProcess, type Process } from '../posix/process.ts'
import { withFailpoints } from './failpoints.ts'
import { untilDead, type TestMount } from './support.ts'

const root = { uid: 0, gid: 0, groups: [], umask: 0o22 }

const O_RDWR = 2
const O_CREAT = 0o100

const limit = { timeout: 60_000 }

/** The processes have no resend and say nothing of what is lost, which is no news here. */
function withLoss(failpoints: readonly string[], work: (mount: TestMount, p: Process) => Promise<void>): Promise<void> {
  return withFailpoints(failpoints, work, { logLevel: 'silent' }, { LITEVOL_RESEND: 'off' })
}

test('a request that died with its process is EIO, and the mount goes on', limit, () =>
  withLoss(['MKDIR:read:1', 'GETXATTR:read:1', 'STATFS:read:1'], async (_mount, p) => {
    await assertErrno('EIO', p.mkdir('lost'))
    await p.mkdir('kept')
    await assertErrno('EIO', p.getxattr('kept', 'user.a'))
    await assertErrno('EIO', p.statvfs('.'))
    assert.deepEqual(await p.listdir('.'), ['kept'])
  }),
)

test('written pages that died with a process are EIO for fsync, once, and not silently lost', limit, () =>
  withLoss(['WRITE:read:1'], async (_mount, p) => {
    const fd = await p.open('file', O_RDWR | O_CREAT, 0o644)
    await p.write(fd, 'lost')
    await assertErrno('EIO', p.fsync(fd))
    await p.pwrite(fd, 'kept', 0)
    await p.fsync(fd)
    await p.close(fd)
    assert.equal(await p.get('file'), 'kept')
  }),
)

test('a request that died after FORGETs and another lost one is answered too', limit, () =>
  withLoss(['', 'MKDIR:read:1', 'MKDIR:read:1'], async (mount, p) => {
    await p.make('.', 'file', 0, 50)
    const { pid } = mount
    process.kill(pid, 'SIGKILL')
    await untilDead(mount, pid)
    await p.unmake('.', 'file', 0, 50)
    await assertErrno('EIO', p.mkdir('a'))
    await assertErrno('EIO', p.mkdir('b'))
    await p.mkdir('c')
    assert.deepEqual(await p.listdir('.'), ['c'])
  }),
)

/** Waits for the mount in so many threads, and says when all of them do. */
const waiters = `
import os, sys, threading
threading.stack_size(65536)
begun = threading.Semaphore(0)
def wait():
    begun.release()
    os.statvfs(sys.argv[1])
for _ in range(int(sys.argv[2])): threading.Thread(target=wait).start()
for _ in range(int(sys.argv[2])): begun.acquire()
print("waiting", flush=True)
`

for (const { count, wakes } of [
  { count: 20, wakes: false },
  { count: 1500, wakes: true },
])
  test(`a request that died after ${String(count)} others were taken back is answered`, limit, () =>
    withLoss(['MKDIR:read:1'], async (mount, p) => {
      const other = startProcess(mount.mountpoint, root)
      try {
        process.kill(mount.pid, 'SIGSTOP')
        const child = spawn('python3', ['-c', waiters, mount.mountpoint, String(count)], { stdio: ['ignore', 'pipe', 'inherit'] })
        await once(createInterface({ input: child.stdout }), 'line')
        child.kill('SIGKILL')
        await once(child, 'exit')
        const lost = p.mkdir('lost')
        lost.catch(() => undefined)
        process.kill(mount.pid, 'SIGCONT')
        if (wakes) await other.statvfs('.')
        await assertErrno('EIO', lost)
        assert.deepEqual(await p.listdir('.'), [])
      } finally {
        await other.stop()
      }
    }),
  )
