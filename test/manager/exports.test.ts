/** Which snapshots serve exports, and their end: who has a volume to itself afterwards finds none of its files open. */
import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { buffer } from 'node:stream/consumers'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { makeLogger } from '../../src/base/index.ts'
import { pageSize } from '../../src/engine/index.ts'
import { Exports } from '../../src/manager/exports.ts'
import type { HeldSnapshot } from '../../src/manager/lease.ts'
import { withFile } from '../support.ts'

const options = { exportLeaseMs: 60_000, exportStallMs: 60_000, exportWalLimit: 1 << 30 }
const makeExports = (): Exports => new Exports(options, makeLogger('test', 'warn'))

/** A snapshot of a file that lies still, as `holdFile` makes it. */
function heldSnapshot(file: string, change: Partial<HeldSnapshot> = {}): HeldSnapshot {
  const extent = { file, pageSize, pageCount: statSync(file).size / pageSize, walFrames: 0 }
  return { ...extent, bytesTag: 'tag', isHeld: () => true, release: () => Promise.resolve(), ...change }
}

test('whoever ends all exports waits for an end that somebody else has begun', () =>
  withFile(async (file) => {
    const exports = makeExports()
    const released = Promise.withResolvers<undefined>()
    const view = await exports.open({ kind: 'fresh' }, () => Promise.resolve(heldSnapshot(file, { release: () => released.promise })))
    view.close()
    const order: string[] = []
    const first = exports.endAll('the FUSE process was replaced').then(() => order.push('first'))
    const second = exports.endAll('the volume is unmounted').then(() => order.push('second'))
    for (let turns = 0; turns < 100; turns++) await turn()
    assert.deepEqual(order, [])
    released.resolve(undefined)
    await Promise.all([first, second])
    assert.deepEqual(order.sort(), ['first', 'second'])
  }))

test('a snapshot whose holder died is told by the first who reads it, and serves nobody after', () =>
  withFile(async (file) => {
    const exports = makeExports()
    let isAlive = true
    let released = 0
    const release = async (): Promise<void> => void released++
    const dying = heldSnapshot(file, { isHeld: () => isAlive, release })
    const first = await exports.open({ kind: 'fresh' }, () => Promise.resolve(dying))
    isAlive = false
    await assert.rejects(buffer(first.stream(0, first.size)), { code: 'ESTALE' })
    for (const wish of [{ kind: 'resume', tag: 'tag' }, { kind: 'part' }, { kind: 'fresh' }] as const) {
      const view = await exports.open(wish, () => Promise.resolve(heldSnapshot(file)))
      assert.equal((await buffer(view.stream(0, view.size))).length, view.size)
    }
    assert.equal(released, 1)
    await exports.endAll('the test is over')
  }))

test('a snapshot that is handed over is held as long as its new holder lives', () =>
  withFile(async (file) => {
    const exports = makeExports()
    const first = await exports.open({ kind: 'fresh' }, () => Promise.resolve(heldSnapshot(file)))
    let isAlive = true
    exports.handOver({ isHeld: () => isAlive, release: () => Promise.resolve() })
    const second = await exports.open({ kind: 'resume', tag: 'tag' }, () => assert.fail('it is there'))
    assert.equal((await buffer(second.stream(0, second.size))).length, second.size)
    isAlive = false
    await assert.rejects(buffer(first.stream(0, first.size)), { code: 'ESTALE' })
    await exports.endAll('the test is over')
  }))
