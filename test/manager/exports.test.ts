/** The end of exports: who has a volume to itself afterwards finds none of its files open. */
import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { makeLogger } from '../../src/base/index.ts'
import { pageSize } from '../../src/engine/index.ts'
import { Exports } from '../../src/manager/exports.ts'
import { withFile } from '../support.ts'

test('whoever ends all exports waits for an end that somebody else has begun', () =>
  withFile(async (file) => {
    const options = { exportLeaseMs: 60_000, exportStallMs: 60_000, exportWalLimit: 1 << 30 }
    const exports = new Exports(options, makeLogger('test', 'warn'))
    const released = Promise.withResolvers<undefined>()
    const extent = { file, pageSize, pageCount: statSync(file).size / pageSize, walFrames: 0, isHeld: () => true }
    const view = await exports.open({ kind: 'fresh' }, () =>
      Promise.resolve({ ...extent, bytesTag: 'tag', release: () => released.promise }),
    )
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
