/** The volume file is made longer by zeros before a checkpoint fills it: whatever ends between the two, the volume is whole. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { appendFileSync, closeSync, constants, copyFileSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import type { Ino } from '../../src/base/index.ts'
import { Maintenance, Volume, checkVolume, createVolumeFile, pageSize } from '../../src/engine/index.ts'
import { extendByZeros } from '../../src/engine/zeros.ts'
import { assertClean, seededBytes, withFolder } from '../support.ts'

const write = { keepTimes: false, killPrivileges: false }
const mib = 1 << 20

/** A new volume with a file of `count` MiB, all of it in the WAL. */
function open(path: string, count: number): { volume: Volume; maintenance: Maintenance; ino: Ino } {
  createVolumeFile(path)
  const volume = Volume.open(path)
  const { ino } = volume.create(volume.root, Buffer.from('file'), { uid: 0, gid: 0, mode: 0o100644 })
  for (let i = 0; i < count; i++) volume.write(ino, i * mib, seededBytes(i, mib), write)
  return { volume, maintenance: new Maintenance(path), ino }
}

function assertContent(path: string, count: number): void {
  const volume = Volume.open(path)
  const into = Buffer.alloc(mib)
  const { ino } = volume.lookup(volume.root, Buffer.from('file')) ?? assert.fail('it is gone')
  for (let i = 0; i < count; i++) {
    assert.equal(volume.read(ino, i * mib, into), mib)
    assert.ok(into.equals(seededBytes(i, mib)), `MiB ${String(i)}`)
  }
  volume.close()
  assertClean(path)
}

test('after a checkpoint the file is as long as its pages', () =>
  withFolder((folder) => {
    const path = join(folder, 'v.sqlite')
    const { volume, maintenance } = open(path, 5)
    assert.ok(statSync(path).size < mib)
    assert.equal(maintenance.checkpoint().framesRemaining, 0)
    assert.equal(statSync(path).size, maintenance.state().sizeBytes)
    maintenance.close()
    volume.close()
    maintenance.closeFile()
    assertContent(path, 5)
  }))

test('while a snapshot of the file alone is held, the file stays as it is to its last byte and its time', () =>
  withFolder((folder) => {
    const path = join(folder, 'v.sqlite')
    const { volume, maintenance, ino } = open(path, 3)
    maintenance.truncateWal()
    const snapshot = maintenance.acquireSnapshot()
    assert.equal(snapshot.walFrames, 0)
    const before = statSync(path, { bigint: true })
    for (let i = 3; i < 9; i++) volume.write(ino, i * mib, seededBytes(i, mib), write)
    assert.ok(maintenance.checkpoint().framesRemaining > 0)
    const after = statSync(path, { bigint: true })
    assert.deepEqual([after.size, after.mtimeNs], [before.size, before.mtimeNs])
    snapshot.release()
    assert.equal(maintenance.checkpoint().framesRemaining, 0)
    assert.equal(statSync(path).size, maintenance.state().sizeBytes)
    maintenance.close()
    volume.close()
    maintenance.closeFile()
    assertContent(path, 9)
  }))

test('a process that is killed between the zeros and the checkpoint leaves a whole volume', () =>
  withFolder((folder) => {
    const path = join(folder, 'v.sqlite')
    const { volume, maintenance } = open(path, 5)
    const copy = join(folder, 'copy.sqlite')
    for (const suffix of ['', '-wal']) copyFileSync(path + suffix, copy + suffix)
    appendFileSync(copy, Buffer.alloc(3 * mib))
    assert.deepEqual(checkVolume(copy), [])
    assertContent(copy, 5)
    assert.ok(statSync(copy).size % pageSize === 0 && statSync(copy).size < 6 * mib, 'the zeros are gone')
    maintenance.close()
    volume.close()
  }))

test('so does a power cut that takes the WAL and leaves the zeros', () =>
  withFolder((folder) => {
    const path = join(folder, 'v.sqlite')
    const { volume, maintenance, ino } = open(path, 5)
    maintenance.truncateWal()
    const copy = join(folder, 'copy.sqlite')
    copyFileSync(path, copy)
    appendFileSync(copy, Buffer.alloc(3 * mib))
    assert.deepEqual(checkVolume(copy), [])
    const again = Volume.open(copy)
    again.write(ino, 5 * mib, seededBytes(5, mib), write)
    again.close()
    assertContent(copy, 6)
    rmSync(copy)
    maintenance.close()
    volume.close()
    maintenance.closeFile()
  }))

test('zeros are never written over what another thread has copied into the file meanwhile', () =>
  withFolder(async (folder) => {
    const path = join(folder, 'v.sqlite')
    const { volume, maintenance, ino } = open(path, 1)
    const href = new URL('../../src/engine/connection.ts', import.meta.url).href
    const code = `const { openConnection } = await import(${JSON.stringify(href)}); const connection = openConnection(${JSON.stringify(path)})
      for (let done = false; !done; done = Atomics.load(new Int32Array(stop), 0) === 1) connection.pragma('wal_checkpoint(PASSIVE)')
      connection.close()`
    const stop = new SharedArrayBuffer(4)
    const thread = new Worker(`const { workerData: stop } = require('node:worker_threads'); (async () => { ${code} })()`, {
      eval: true,
      workerData: stop,
    })
    const ended = once(thread, 'exit')
    for (let i = 1; i < 150; i++) {
      volume.write(ino, i * mib, seededBytes(i, mib), write)
      if (i % 6 === 0) maintenance.checkpoint()
      await new Promise((resolve) => setImmediate(resolve)) // an error of the thread fails the test
    }
    Atomics.store(new Int32Array(stop), 0, 1)
    await ended
    maintenance.close()
    volume.close()
    maintenance.closeFile()
    assertContent(path, 150)
  }))

test('appended zeros go behind an end that has moved', () =>
  withFolder((folder) => {
    const path = join(folder, 'file')
    const content = seededBytes(1, mib)
    writeFileSync(path, content)
    const descriptor = openSync(path, constants.O_WRONLY | constants.O_APPEND)
    extendByZeros(descriptor, 4096, 200_704, 200_704)
    closeSync(descriptor)
    assert.ok(readFileSync(path).equals(Buffer.concat([content, Buffer.alloc(196_608)])))
  }))
