import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { Maintenance, Volume, readVolumeState } from '../../src/engine/index.ts'
import { assertClean, assertErrno, makeDirectory, makeFile, names, withFile, withVolume } from '../support.ts'

const writing = { keepTimes: false, killPrivileges: false }

/** Runs `work` with a maintenance beside the volume. */
const withMaintenance = (work: (volume: Volume, maintenance: Maintenance, file: string) => void) =>
  withVolume((volume, file) => {
    const maintenance = new Maintenance(file)
    try {
      work(volume, maintenance, file)
    } finally {
      maintenance.close()
    }
  })

test('every change moves the change token and its time, strictly', () =>
  withMaintenance((volume, maintenance) => {
    const ino = makeFile(volume, volume.root, 'a')
    const changes = [
      () => makeFile(volume, volume.root, 'b'),
      () => volume.write(ino, 0, Buffer.from('x'), writing),
      () => volume.setAttributes(ino, { mode: 0o600 }),
      () => volume.setAttributes(ino, { atime: { sec: 1, nsec: 2 } }),
      () => volume.setXattr(ino, Buffer.from('user.a'), Buffer.from('1'), 0),
      () => volume.removeXattr(ino, Buffer.from('user.a')),
      () => volume.link(ino, volume.root, Buffer.from('c')),
      () => volume.rename(volume.root, Buffer.from('c'), volume.root, Buffer.from('d'), 0),
      () => volume.unlink(volume.root, Buffer.from('d')),
      () => makeDirectory(volume, volume.root, 'e'),
      () => volume.rmdir(volume.root, Buffer.from('e')),
    ]
    let last = maintenance.state()
    for (const change of changes) {
      change()
      const next = maintenance.state()
      assert.equal(next.change, last.change + 1)
      assert.ok(next.mtime.sec + next.mtime.nsec / 1e9 > last.mtime.sec + last.mtime.nsec / 1e9)
      assert.notEqual(next.bytesTag, last.bytesTag)
      last = next
    }
  }))

test('reads, checkpoints, snapshots, failed operations and collecting leave the change token alone', () =>
  withMaintenance((volume, maintenance) => {
    const ino = makeFile(volume, volume.root, 'a', 'text')
    volume.unlink(volume.root, Buffer.from('a'))
    const { change, mtime } = maintenance.state()
    volume.read(ino, 0, Buffer.alloc(10))
    maintenance.checkpoint()
    maintenance.acquireSnapshot().release()
    maintenance.truncateWal()
    assertErrno('ENOENT', () => volume.unlink(volume.root, Buffer.from('none')))
    volume.collect(ino)
    volume.sync()
    const after = maintenance.state()
    assert.deepEqual([after.change, after.mtime], [change, mtime])
  }))

test('closing and opening change neither token nor bytes; the first change of an opening draws a new epoch', () =>
  withVolume((volume, file) => {
    makeFile(volume, volume.root, 'a')
    const open = readVolumeState(file)
    const second = Volume.open(file) // as after a hand-over: nobody writes meanwhile
    assert.deepEqual(readVolumeState(file), open)
    makeFile(second, second.root, 'b')
    second.close()
    const epochOf = (tag: string): string => tag.split('-')[0] ?? ''
    assert.notEqual(epochOf(readVolumeState(file).bytesTag), epochOf(open.bytesTag))
  }))

test('a closed volume is one file', () =>
  withVolume((volume, file) => {
    makeFile(volume, volume.root, 'a', 'x')
    assert.ok(existsSync(`${file}-wal`))
    const second = Volume.open(file)
    volume.close()
    second.close()
    assert.deepEqual([existsSync(`${file}-wal`), existsSync(`${file}-shm`)], [false, false])
    Object.assign(volume, { close: () => undefined })
  }))

test('a checkpoint counts its frames: all copied without a snapshot, none past one', () =>
  withMaintenance((volume, maintenance) => {
    makeFile(volume, volume.root, 'a', 'x')
    const first = maintenance.truncateWal()
    assert.ok(first.framesCheckpointed > 0)
    assert.equal(first.framesRemaining, 0)
    const snapshot = maintenance.acquireSnapshot()
    makeFile(volume, volume.root, 'b', 'y')
    assert.ok(maintenance.truncateWal().framesRemaining > 0)
    snapshot.release()
    assert.equal(maintenance.truncateWal().framesRemaining, 0)
  }))

test('paths lead from the root to an inode, hard links and renamed directories included', () =>
  withMaintenance((volume, maintenance) => {
    const d = makeDirectory(volume, volume.root, 'd')
    const ino = makeFile(volume, d, 'a')
    volume.link(ino, volume.root, Buffer.from('b'))
    volume.unlink(volume.root, Buffer.from('b'))
    volume.rename(volume.root, Buffer.from('d'), volume.root, Buffer.from('e'), 0)
    const gone = makeFile(volume, d, 'gone')
    volume.unlink(d, Buffer.from('gone'))
    assert.deepEqual(maintenance.paths([ino, gone], volume.root).map(String), ['e/a'])
  }))

test('a successor on the same FUSE connection recalls the request committed last, and no other', () =>
  withFile((file) => {
    const first = Volume.open(file, { fuseConnection: 77 })
    first.beginRequest(10)
    const { ino } = first.create(first.root, Buffer.from('a'), { uid: 0, gid: 0, mode: 0o100644 })
    assert.equal(first.inheritedRequest, undefined, 'it is for a successor')
    first.close()
    const second = Volume.open(file, { fuseConnection: 77 })
    assert.deepEqual(second.inheritedRequest, { number: 10, ino })
    second.beginRequest(12)
    second.unlink(second.root, Buffer.from('a'))
    second.close()
    const third = Volume.open(file, { fuseConnection: 77 })
    assert.deepEqual(third.inheritedRequest, { number: 12, ino: 0 })
    third.close()
    const other = Volume.open(file, { fuseConnection: 78 })
    assert.equal(other.inheritedRequest, undefined)
    other.close()
  }))

test('a request that was rolled back is not recalled', () =>
  withFile((file) => {
    const first = Volume.open(file, { fuseConnection: 77 })
    first.beginRequest(10)
    makeFile(first, first.root, 'a')
    first.beginRequest(12)
    assertErrno('EEXIST', () => makeFile(first, first.root, 'a'))
    first.close()
    const second = Volume.open(file, { fuseConnection: 77 })
    assert.equal(second.inheritedRequest?.number, 10)
    second.close()
  }))

/** Serves a volume until its twentieth transaction is about to be committed; then it is killed. */
const killedOwner = `
const { Volume } = await import(process.argv[1])
let transactions = 0
const beforeCommit = () => { if (++transactions === 20) process.kill(process.pid, 'SIGKILL') }
const volume = Volume.open(process.argv[2], { fuseConnection: 77, beforeCommit })
process.stdout.write('open')
await new Promise((resolve) => process.stdin.once('data', resolve))
for (let n = 1; ; n++) {
  volume.beginRequest(2 * n)
  volume.create(volume.root, Buffer.from('f' + n), { uid: 0, gid: 0, mode: 0o100644 })
}
`

test('a volume that stood by beside a process that was killed goes on with all that it has committed', () =>
  withFile(async (file) => {
    const engine = new URL('../../src/engine/index.ts', import.meta.url).href
    const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', killedOwner, engine, file]
    const owner = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    await once(owner.stdout, 'data')
    const volume = Volume.standBy(file, { fuseConnection: 77 })
    assert.equal(volume.lookup(volume.root, Buffer.from('f1')), undefined)
    owner.stdin.write('go')
    assert.deepEqual(await once(owner, 'exit'), [null, 'SIGKILL'])
    volume.resume()
    assert.equal(names(volume, volume.root).length, 19)
    const last = volume.lookup(volume.root, Buffer.from('f19')) ?? assert.fail('the last committed file is missing')
    assert.deepEqual(volume.inheritedRequest, { number: 38, ino: last.ino })
    assert.equal(makeFile(volume, volume.root, 'next'), last.ino + 1)
    volume.close()
    assert.ok(!existsSync(`${file}-wal`))
    assertClean(file)
  }))
