import assert from 'node:assert/strict'
import { statfs } from 'node:fs/promises'
import { test } from 'node:test'
import { memoryOf } from '../system/belongings.ts'
import { withMount } from './support.ts'

test('a request leaves nothing in memory that a turn of the event loop would have to give back: the serving thread has none', () =>
  withMount(async (mount) => {
    const ask = async (times: number): Promise<number> => {
      for (let i = 0; i < times; i++) await statfs(mount.mountpoint)
      return memoryOf(mount.pid)
    }
    const before = await ask(2000)
    const after = await ask(6000)
    assert.ok(after - before < 12, `${String(before)} MiB of its own after 2,000 requests, ${String(after)} after 6,000 more`)
  }))
