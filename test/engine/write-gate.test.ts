/** Who needs the write lock beside a busy writer: the gate stops it between two transactions, and lets it go on. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { Maintenance, Volume, WriteGate } from '../../src/engine/index.ts'
import { assertClean, makeFile, readAll, withFile } from '../support.ts'

const engine = JSON.stringify(new URL('../../src/engine/index.ts', import.meta.url).href)

/** A thread that runs `step` again and again until word 1 of the counter is set; word 0 counts. */
async function withLoop(setUp: string, step: string, data: object, work: (count: () => number) => void): Promise<void> {
  const counter = new Int32Array(new SharedArrayBuffer(8))
  const code = `
    const { workerData } = require('node:worker_threads')
    void (async () => {
      const { Volume, WriteGate } = await import(${engine})
      const counter = new Int32Array(workerData.counter)
      const gate = new WriteGate(workerData.gate)
      ${setUp}
      do { ${step}; Atomics.add(counter, 0, 1); Atomics.notify(counter, 0) } while (Atomics.load(counter, 1) === 0)
      if (typeof volume !== 'undefined') volume.close()
    })()`
  const worker = new Worker(code, { eval: true, workerData: { ...data, counter: counter.buffer } })
  const exit = once(worker, 'exit')
  try {
    const count = (): number => Atomics.load(counter, 0)
    awaitMore(counter, 0)
    work(count)
    awaitMore(counter, count()) // it goes on
  } finally {
    Atomics.store(counter, 1, 1)
  }
  assert.deepEqual(await exit, [0])
}

function awaitMore(counter: Int32Array, than: number): void {
  assert.notEqual(Atomics.wait(counter, 0, than, 30_000), 'timed-out', 'the thread goes on')
}

/** Passes that many ms, in which other threads go on. */
const pass = (ms: number): string => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)

test('nobody passes a closed gate; everybody goes on when it is open, also after an error', async () => {
  const gate = new WriteGate()
  await withLoop('', 'gate.pass()', { gate: gate.memory }, (count) => {
    for (const fault of [undefined, new Error('failed')]) {
      const closed = (): void => {
        gate.closed(() => {
          const before = count()
          pass(100)
          assert.ok(count() <= before + 1, 'who was about to pass may have passed')
          if (fault) throw fault
        })
      }
      if (fault) assert.throws(closed, fault)
      else closed()
      const before = count()
      const deadline = Date.now() + 30_000
      while (count() === before) assert.ok(Date.now() < deadline, 'it goes on')
    }
  })
})

test('beside one who writes without a pause the WAL starts anew and snapshots begin, and nothing is lost', () =>
  withFile(async (file) => {
    const first = Volume.open(file)
    const ino = makeFile(first, first.root, 'a')
    first.close()
    const gate = new WriteGate()
    const setUp = `
      const volume = Volume.open(workerData.file, { gate })
      const block = Buffer.alloc(131072)
      let n = 0`
    const step = `
      block.writeUInt32LE(++n)
      volume.write(workerData.ino, n % 64 * block.length, block, { keepTimes: true, killPrivileges: false })`
    await withLoop(setUp, step, { gate: gate.memory, file, ino }, (count) => {
      const maintenance = new Maintenance(file, undefined, gate)
      try {
        for (let round = 0; round < 10; round++) {
          const before = count()
          maintenance.restartWal()
          const snapshot = maintenance.acquireSnapshot()
          assert.ok(snapshot.pageCount > 0)
          snapshot.release()
          const deadline = Date.now() + 30_000
          while (count() === before) assert.ok(Date.now() < deadline, 'it goes on')
        }
      } finally {
        maintenance.close()
      }
    })
    const again = Volume.open(file)
    const content = readAll(again, ino)
    again.close()
    assert.ok(content.length > 0 && content.length % 131_072 === 0)
    for (let at = 0; at < content.length; at += 131_072) assert.equal(content.readUInt32LE(at) % 64, at / 131_072)
    assertClean(file)
  }))
