/** SQLite's page cache: small after large reads and writes in turn, large again among others. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CacheSize } from '../../src/engine/cache-size.ts'
import { openConnection } from '../../src/engine/connection.ts'
import { withFile } from '../support.ts'

const mib = 1 << 20

test('the page cache is small from the 25th MiB of large requests in turn on, until a third request comes that is none', () =>
  withFile((file) => {
    const connection = openConnection(file, 'serving')
    const kib = (): number => -Number(connection.pragma('cache_size', { simple: true }))
    const cacheSize = new CacheSize(connection)
    const move = (count: number, bytes: number): number => {
      for (let i = 0; i < count; i++) {
        cacheSize.begin()
        cacheSize.move(bytes)
      }
      return kib()
    }
    const others = (count: number): number => move(count, 4096)
    const large = kib()
    assert.ok(large > 20_000)
    assert.equal(move(24, mib), large)
    assert.equal(move(1, mib), 2048)
    assert.equal(others(1), 2048)
    assert.equal(move(1, mib), 2048) // one in between, as the kernel asks for attributes, changes nothing
    assert.equal(others(3), large)
    assert.equal(move(24, mib), large) // counted anew
    assert.equal(move(1, mib), 2048)
    assert.equal(others(1000), large)
    for (let i = 0; i < 100; i++) {
      move(4, mib)
      assert.equal(others(3), large) // never so many in turn
    }
    connection.close()
  }))
