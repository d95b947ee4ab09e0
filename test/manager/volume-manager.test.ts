/** Records, files and supervisors together, with real FUSE processes; other processes touch the mountpoints. */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { buffer } from 'node:stream/consumers'
import { test, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { drivers } from '../mount/support.ts'
import { assertErrno, until } from '../support.ts'
import { createVolumeFile } from '../../src/engine/index.ts'
import { listMounts } from '../../src/fuse/mount.ts'
import type { ExportView, VolumeManager } from '../../src/manager/index.ts'
import { withManagers } from './support.ts'

const run = promisify(execFile)

/** Whatever touches a mount ends in time. */
const limit = { timeout: 120_000 }

const plain = { readOnly: false, persist: undefined }

/** Runs a script of sh in another process: a process that uses its own mounts can deadlock. */
async function sh(script: string, ...args: readonly string[]): Promise<string> {
  return (await run('sh', ['-ec', script, 'sh', ...args], { timeout: 60_000 })).stdout
}

async function mounted(manager: VolumeManager, name = 'photos'): Promise<{ readonly id: string; readonly mountpoint: string }> {
  const { id } = manager.create(name, {}, 'test')
  const { mountpoint } = await manager.mount(id, plain, 'test')
  assert.ok(mountpoint !== null)
  return { id, mountpoint }
}

async function readWhole(view: ExportView): Promise<Buffer> {
  return buffer(view.stream(0, view.size))
}

test('a created volume is a record and a file, and both survive a restart', () =>
  withManagers(async ({ start, volumes }) => {
    const first = start()
    const created = first.create('photos', { uid: 5, gid: 6, mode: 0o700 }, 'test')
    assert.deepEqual(readdirSync(volumes), [`${created.id}.litevol`])
    assertErrno('EEXIST', () => first.create('photos', {}, 'test'))
    for (const name of ['', '.x', '-x', 'a b', 'a/b', 'ä', 'x'.repeat(65)]) assertErrno('EINVAL', () => first.create(name, {}, 'test'))
    await first.close()
    assert.deepEqual(start().list(), [created])
  }))

test('a volume cannot be made where the data root was taken away, which is no fault of who asks', () =>
  withManagers(async ({ start, volumes }) => {
    const manager = start()
    renameSync(volumes, `${volumes}.away`)
    assertErrno('EIO', () => manager.create('photos', {}, 'test'))
    renameSync(`${volumes}.away`, volumes)
    manager.create('photos', {}, 'test')
    await manager.close()
  }))

test('what a crash left of volume files is finished or undone, and strangers stay', () =>
  withManagers(async ({ start, volumes }) => {
    const first = start()
    const [a, b] = [first.create('a', {}, 'test').id, first.create('b', {}, 'test').id]
    await first.close()
    const path = (name: string): string => join(volumes, name)
    renameSync(path(`${a}.litevol`), path(`${a}.litevol.new`)) // after the record, before the rename of create
    renameSync(path(`${b}.litevol`), path(`${b}.litevol.deleted`)) // before the record's removal by delete
    createVolumeFile(path('0-0.litevol.new')) // before the record of create
    createVolumeFile(path('0-1.litevol.deleted')) // after the record's removal by delete
    createVolumeFile(path('0-2.litevol')) // never ours to remove
    start()
    assert.deepEqual(readdirSync(volumes).sort(), ['0-2.litevol', `${a}.litevol`, `${b}.litevol`].sort())
  }))

test('mount, use, unmount: a directory, then one file and no mountpoint', limit, () =>
  withManagers(async ({ start, volumes, options }) => {
    const manager = start()
    const { id } = manager.create('photos', { uid: 1000, gid: 1001, mode: 0o750 }, 'test')
    const { mountpoint, hostPath } = await manager.mount(id, plain, 'test')
    assert.equal(mountpoint, join(options.mountRoot, id))
    assert.equal(hostPath, `/host/mnt/${id}`)
    assert.equal(await sh('stat -c "%u %g %a" "$1"; echo hello > "$1/x"', mountpoint), '1000 1001 750\n')
    await assert.rejects(manager.mount(id, plain, 'test'), { code: 'EBUSY', problem: 'mounted' })
    const status = await manager.status(id)
    assert.equal(status.state, 'mounted')
    assert.ok(existsSync(`/proc/${String(status.pid)}`))
    await manager.unmount(id, false, 'test')
    assert.deepEqual(readdirSync(volumes), [`${id}.litevol`])
    assert.deepEqual(readdirSync(options.mountRoot), [])
    await assert.rejects(manager.unmount(id, false, 'test'), { code: 'ENOENT', problem: 'not_mounted' })
    await manager.mount(id, { readOnly: true, persist: undefined }, 'test')
    assert.equal(await sh('cat "$1/x"; touch "$1/y" 2>/dev/null || echo refused', mountpoint), 'hello\nrefused\n')
  }),
)

test('unmount and delete are refused while a handle is open, with how many, unless forced', limit, (t: TestContext) =>
  withManagers(async ({ start, volumes }) => {
    const manager = start()
    const { id, mountpoint } = await mounted(manager)
    const holder = spawn('sh', ['-c', 'exec 3>"$1/held" 4>"$1/too"; echo ready; exec sleep 600', 'sh', mountpoint], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.after(() => holder.kill('SIGKILL'))
    await once(holder.stdout, 'data')
    for (const refused of [manager.unmount(id, false, 'test'), manager.delete(id, false, 'test')]) {
      await assert.rejects(refused, { code: 'EBUSY', context: { handles: 2, exports: 0 } })
    }
    await until('both are counted', async () => (await manager.status(id)).handles === 2) // null where the process could not say in time
    await manager.unmount(id, true, 'test')
    assert.deepEqual(readdirSync(volumes), [`${id}.litevol`])
    await manager.mount(id, plain, 'test')
    await manager.delete(id, false, 'test')
    assert.deepEqual(readdirSync(volumes), [])
    assert.throws(() => manager.get(id), { code: 'ENOENT' })
  }),
)

test('a killed FUSE process is a pause: who has files open goes on, exports of it break off, and the status counts it', limit, () =>
  withManagers(async ({ start }) => {
    const manager = start()
    const { id, mountpoint } = await mounted(manager)
    const view = await manager.openExport(id, { kind: 'fresh' })
    const stream = view.stream(0, view.size)
    const before = await manager.status(id)
    const script = `exec 3>"$1/open"; echo one >&3; rm "$1/open"; kill -9 "$2"; echo two >&3; sync "/proc/self/fd/3"; echo new >"$1/new"
      wc -c <"/proc/$$/fd/3"; cat "$1/new"`
    assert.equal(await sh(script, mountpoint, String(before.pid)), '8\nnew\n')
    await until('restarts', async () => ((await manager.status(id)).restarts ?? 0) >= 1)
    const after = await manager.status(id)
    assert.notEqual(after.pid, before.pid)
    assert.equal(after.state, 'mounted')
    await assert.rejects(buffer(stream), 'a stream of it breaks off')
    await until('no handles', async () => (await manager.status(id)).handles === 0)
    await manager.unmount(id, false, 'test')
  }),
)

test('a FUSE process is replaced by the code as it lies now when that is asked for', limit, () =>
  withManagers(async ({ start }) => {
    const manager = start()
    const { id, mountpoint } = await mounted(manager)
    await sh('echo kept > "$1/kept"', mountpoint)
    const { pid } = await manager.status(id)
    await manager.restart(id)
    const status = await manager.status(id)
    assert.notEqual(status.pid, pid)
    assert.equal(status.restarts, 1)
    assert.equal(await sh('cat "$1/kept"', mountpoint), 'kept\n')
    await manager.unmount(id, false, 'test')
    await assert.rejects(manager.restart(id), { problem: 'not_mounted' })
  }),
)

test('a mount whose keeper is killed too is seen: failed with the reason, cleared, and mount works again', limit, () =>
  withManagers(async ({ start, volumes, options }) => {
    const manager = start()
    const { id, mountpoint } = await mounted(manager)
    await sh('echo kept > "$1/kept"; sync "$1/kept"', mountpoint)
    const view = await manager.openExport(id, { kind: 'fresh' })
    const stream = view.stream(0, view.size)
    process.kill(-Number(readFileSync(join(options.runRoot, id, 'keeper'), 'utf8')), 'SIGKILL')
    await until('failed', () => manager.get(id).state === 'failed')
    assert.match((await manager.status(id)).reason ?? '', /killed by SIGKILL/)
    await assert.rejects(buffer(stream), 'a stream of it breaks off')
    assert.deepEqual(readdirSync(options.mountRoot), [])
    assert.deepEqual(readdirSync(volumes), [`${id}.litevol`])
    await manager.mount(id, plain, 'test')
    assert.equal(await sh('cat "$1/kept"', mountpoint), 'kept\n')
  }),
)

test('somebody else may unmount', limit, () =>
  withManagers(async ({ start, volumes }) => {
    const manager = start()
    const { id, mountpoint } = await mounted(manager)
    await sh('echo x > "$1/x"; umount "$1"', mountpoint)
    await until('unmounted', () => manager.get(id).state === 'unmounted')
    assert.deepEqual(readdirSync(volumes), [`${id}.litevol`])
  }),
)

test('a mount right after somebody else has unmounted waits for the FUSE process, which has not noticed yet', limit, () =>
  withManagers(async ({ start }) => {
    const manager = start()
    const { id, mountpoint } = await mounted(manager)
    await sh('echo kept > "$1/x"', mountpoint)
    const { pid } = await manager.status(id)
    process.kill(pid ?? 0, 'SIGSTOP')
    await sh('umount -i -c "$1"', mountpoint)
    const begin = Date.now()
    const mounting = manager.mount(id, plain, 'test')
    process.kill(pid ?? 0, 'SIGCONT')
    await mounting.catch((error: unknown) => {
      assert.partialDeepStrictEqual(error, { problem: 'mounted' })
      assert.ok(Date.now() - begin > 4900, 'it waits for five seconds, which a machine may stand still')
      return until('it is gone', () => manager.mount(id, plain, 'test').then(() => true, () => false)) // prettier-ignore
    })
    assert.notEqual((await manager.status(id)).pid, pid)
    assert.equal(await sh('cat "$1/x"', mountpoint), 'kept\n')
  }),
)

test('root may remount a volume: the status says what the mount table says', limit, () =>
  withManagers(async ({ start }) => {
    const manager = start()
    const { id } = manager.create('photos', {}, 'test')
    const { mountpoint } = await manager.mount(id, { readOnly: true, persist: undefined }, 'test')
    assert.equal((await manager.status(id)).readOnly, true)
    // -i: mount(8) would run fuse3's mount.fuse, where that is installed and ours is not.
    await sh('mount -i -o remount,rw "$1"; echo x > "$1/x"', mountpoint ?? '')
    assert.equal((await manager.status(id)).readOnly, false)
    await sh('mount -i -o remount,ro "$1"; ! touch "$1/y" 2>&1', mountpoint ?? '')
    assert.equal((await manager.status(id)).readOnly, true)
    await manager.unmount(id, false, 'test')
    assert.equal((await manager.status(id)).readOnly, null)
  }),
)

test('a volume whose file is missing or damaged cannot be mounted, and nothing is left', limit, () =>
  withManagers(async ({ start, volumes, options }) => {
    const manager = start()
    const { id } = manager.create('photos', {}, 'test')
    const file = join(volumes, `${id}.litevol`)
    writeFileSync(file, 'this is no volume file, but long enough to look like one '.repeat(100))
    await assert.rejects(manager.mount(id, plain, 'test'), { code: 'EIO' })
    await assert.rejects(manager.stat(id), { code: 'EIO' })
    rmSync(file)
    await assert.rejects(manager.mount(id, plain, 'test'), { code: 'EIO', problem: 'volume_missing' })
    assert.equal(manager.get(id).state, 'unmounted')
    assert.deepEqual(readdirSync(options.mountRoot), [])
    await manager.delete(id, false, 'test')
    assert.deepEqual(manager.list(), [])
  }),
)

test('a mount that is not ready in time is undone', limit, () =>
  withManagers(
    async ({ start, options }) => {
      const manager = start()
      const { id } = manager.create('photos', {}, 'test')
      await assert.rejects(manager.mount(id, plain, 'test'), { code: 'ETIMEDOUT', problem: 'not_ready' })
      assert.equal(manager.get(id).state, 'unmounted')
      assert.deepEqual(readdirSync(options.mountRoot), [])
    },
    { mountTimeoutMs: 5 },
  ),
)

test('what persists is mounted at the next start, until it is unmounted by a call', limit, () =>
  withManagers(async ({ start }) => {
    const first = start()
    const { id } = first.create('photos', {}, 'test')
    const { mountpoint } = await first.mount(id, { readOnly: false, persist: true }, 'test')
    await sh('echo x > "$1/x"', mountpoint ?? '')
    await first.close()
    const second = start()
    await second.restore()
    assert.equal(await sh('cat "$1/x"', mountpoint ?? ''), 'x\n')
    await second.unmount(id, false, 'test')
    await second.close()
    const third = start()
    await third.restore()
    assert.equal(third.get(id).state, 'unmounted')
  }),
)

const noNative = drivers.find(({ driver }) => driver === 'fuse-native')?.skip ?? false

test('a driver that was named is taken and remembered; another mount has the configured one', { ...limit, skip: noNative }, () =>
  withManagers(
    async ({ start }) => {
      const first = start()
      const [named, plainly] = [first.create('named', {}, 'test').id, first.create('plainly', {}, 'test').id]
      await first.mount(named, { readOnly: false, persist: true, driver: 'direct' }, 'test')
      await first.mount(plainly, { readOnly: true, persist: true }, 'test')
      const look = async (manager: VolumeManager) =>
        Promise.all([named, plainly].map(async (id) => [(await manager.status(id)).driver, (await manager.status(id)).readOnly]))
      const expected = [
        ['direct', false],
        ['fuse-native', true],
      ]
      assert.deepEqual(await look(first), expected)
      await first.close()
      const second = start()
      await second.restore()
      assert.deepEqual(await look(second), expected)
      await second.unmount(named, false, 'test')
      await second.mount(named, { readOnly: false, persist: undefined }, 'test')
      assert.equal((await second.status(named)).driver, 'fuse-native')
    },
    { driver: 'fuse-native' },
  ),
)

test('a stop ends mounts in use and running exports within its time, leaving one file each', limit, (t: TestContext) =>
  withManagers(async ({ start, volumes, options }) => {
    const manager = start()
    const [a, b] = [await mounted(manager, 'a'), await mounted(manager, 'b')]
    const holder = spawn('sh', ['-c', 'exec 3>"$1/held"; echo ready; while echo x >&3; do :; done', 'sh', a.mountpoint], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    t.after(() => holder.kill('SIGKILL'))
    await once(holder.stdout, 'data')
    const view = await manager.openExport(b.id, { kind: 'fresh' })
    const stream = view.stream(0, view.size)
    const begin = Date.now()
    await Promise.all([manager.close(), assert.rejects(buffer(stream))])
    assert.ok(Date.now() - begin < options.stopTimeoutMs)
    assert.deepEqual(readdirSync(volumes).sort(), [a.id, b.id].map((id) => `${id}.litevol`).sort())
    assert.equal(listMounts().filter(({ mountpoint }) => mountpoint.startsWith(options.mountRoot)).length, 0)
  }),
)

test('an export is a snapshot of the moment: whole, unmoved by writers, with what was written before it', limit, () =>
  withManagers(async ({ start, options }) => {
    const manager = start()
    const { id, mountpoint } = await mounted(manager)
    await sh('for i in $(seq 50); do head -c 50000 /dev/urandom > "$1/f$i"; done; exec 3> "$1/open"; echo unsynced >&3', mountpoint)
    const view = await manager.openExport(id, { kind: 'fresh' })
    const first = await readWhole(view)
    await sh('for i in $(seq 50); do head -c 50000 /dev/urandom > "$1/f$i"; done', mountpoint)
    const again = await manager.openExport(id, { kind: 'resume', tag: view.tag })
    assert.ok(again.mayBePartial)
    assert.ok((await readWhole(again)).equals(first))
    const fresh = await manager.openExport(id, { kind: 'fresh' })
    assert.notEqual(fresh.tag, view.tag)
    fresh.close()
    const copy = join(options.dataRoot, 'copy.sqlite')
    writeFileSync(copy, first)
    assert.equal(await sh('sqlite3 "$1" "pragma integrity_check"', copy), 'ok\n')
    rmSync(copy)
  }),
)

test('a snapshot taken while unmounted outlives a mount and its writers', limit, () =>
  withManagers(async ({ start }) => {
    const manager = start()
    const { id, mountpoint } = await mounted(manager)
    await sh('head -c 3000000 /dev/urandom > "$1/big"', mountpoint)
    await manager.unmount(id, false, 'test')
    const view = await manager.openExport(id, { kind: 'fresh' })
    const first = await readWhole(view)
    await manager.mount(id, plain, 'test')
    await sh('rm "$1/big"; for i in $(seq 100); do head -c 50000 /dev/urandom > "$1/f$i"; done', mountpoint)
    const again = await manager.openExport(id, { kind: 'resume', tag: view.tag })
    assert.equal(again.tag, view.tag)
    assert.ok((await readWhole(again)).equals(first))
    const { framesRemaining } = await manager.checkpoint(id)
    assert.equal(framesRemaining, 0, 'a checkpoint gives up what was wholly delivered')
    const late = await manager.openExport(id, { kind: 'resume', tag: view.tag })
    assert.equal(late.mayBePartial, false)
    late.close()
  }),
)

test('stat moves with each change and with nothing else', limit, () =>
  withManagers(async ({ start }) => {
    const manager = start()
    const { id, mountpoint } = await mounted(manager)
    const look = async (): Promise<string> => {
      const { change, mtime } = await manager.stat(id)
      return `${String(change)} ${String(mtime.sec)} ${String(mtime.nsec)}`
    }
    const before = await look()
    await sh('echo x > "$1/x"; sync "$1/x"', mountpoint)
    const after = await look()
    assert.notEqual(after, before)
    await sh('cat "$1/x"; ls -l "$1"', mountpoint)
    await manager.checkpoint(id)
    ;(await manager.openExport(id, { kind: 'fresh' })).close()
    assert.equal(await look(), after)
    await manager.unmount(id, false, 'test')
    assert.equal(await look(), after)
    await manager.mount(id, plain, 'test')
    assert.equal(await look(), after)
  }),
)

test('many volumes are mounted and written at once', limit, () =>
  withManagers(async ({ start }) => {
    const manager = start()
    const volumes = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((name) => mounted(manager, name)))
    await Promise.all(volumes.map(({ mountpoint }) => sh('for i in $(seq 100); do echo $i > "$1/$i"; done', mountpoint)))
    const counts = await Promise.all(volumes.map(({ mountpoint }) => sh('ls "$1" | wc -l', mountpoint)))
    assert.deepEqual(counts.map(Number), [100, 100, 100, 100, 100])
    await Promise.all(volumes.map(({ id }) => manager.unmount(id, false, 'test')))
  }),
)

test('a download that nobody reads on is broken off: stuck clients cannot hold every snapshot of a volume', limit, () =>
  withManagers(
    async ({ start }) => {
      const manager = start()
      const { id, mountpoint } = await mounted(manager)
      const ends: Promise<void>[] = []
      const openAnother = async (): Promise<void> => {
        await sh('head -c 2000000 /dev/urandom > "$1/f"', mountpoint)
        const view = await manager.openExport(id, { kind: 'fresh' })
        ends.push(assert.rejects(finished(view.stream(0, view.size)), { code: 'ETIMEDOUT' }))
      }
      // The ninth at once is refused; a machine that stalls may have broken off the first ones by then.
      const openMany = async (): Promise<void> => {
        for (let n = 0; n < 40; n++) await openAnother()
      }
      await assert.rejects(openMany(), { problem: 'too_many_exports' })
      assert.ok(ends.length >= 8)
      await Promise.all(ends)
      ;(await manager.openExport(id, { kind: 'fresh' })).close()
    },
    { exportStallMs: 3000 },
  ),
)

test('past the WAL limit idle snapshots go first, then downloads break off, and never end short', limit, () =>
  withManagers(
    async ({ start }) => {
      const manager = start()
      const { id, mountpoint } = await mounted(manager)
      const churn = (): Promise<string> =>
        sh('for i in $(seq 40); do head -c 100000 /dev/urandom > "$1/f$i"; sync "$1/f$i"; done', mountpoint)
      await churn()
      const idle = await manager.openExport(id, { kind: 'fresh' })
      idle.close()
      await churn()
      const running = await manager.openExport(id, { kind: 'fresh' })
      const stream = running.stream(0, running.size)
      const broken = once(stream, 'error') // which may come at once: the WAL is that long already
      await Promise.race([new Promise((resolve) => stream.once('readable', resolve)), broken])
      let round = 0
      do await churn()
      while (++round < 40 && !stream.destroyed)
      await broken
      assert.ok(!stream.readableEnded)
      for (const { tag } of [idle, running]) {
        const view = await manager.openExport(id, { kind: 'resume', tag })
        assert.equal(view.mayBePartial, false)
        view.close()
      }
    },
    { exportWalLimit: 2 ** 20 },
  ),
)
