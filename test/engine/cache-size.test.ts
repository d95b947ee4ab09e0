/** SQLite's page cache: small after large reads and writes in turn, large again among others. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import { CacheSize } from '../../src/engine/cache-size.ts'
import { openConnection } from '../../src/engine/connection.ts'
import { makeFile, withFile, withVolume } from '../support.ts'

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

test('a volume tells of what it reads and writes, and of each request', (context) =>
  withVolume((volume) => {
    const exec = context.mock.method(Database.prototype, 'exec') // which does what it always does
    const sizes = (): string[] => exec.mock.calls.map(({ arguments: [sql] }) => String(sql)).filter((sql) => sql.includes('cache_size'))
    let requests = 0
    const ask = (count: number, request: (i: number) => void): void => {
      for (let i = 0; i < count; i++) {
        volume.beginRequest(++requests)
        request(i)
      }
    }
    const file = makeFile(volume, volume.root, 'large')
    ask(25, (i) => {
      volume.write(file, i * mib, Buffer.alloc(mib, i), { keepTimes: false, killPrivileges: false })
    })
    ask(3, () => volume.get(file))
    ask(25, (i) => volume.read(file, i * mib, Buffer.alloc(mib)))
    ask(3, () => volume.get(file))
    assert.deepEqual(
      sizes(),
      [2048, 24576, 2048, 24576].map((kib) => `PRAGMA cache_size = -${String(kib)}`),
    )
  }))
