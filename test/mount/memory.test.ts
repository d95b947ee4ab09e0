import assert from 'node:assert/strict'
import { statfs } from 'node:fs/promises'
import { test } from 'node:test'
import { memoryOf } from '../system/belongings.ts'
import { withMount } from './support.ts'

test('a statfs(2) leaves nothing in memory that the garbage collector would have to find', () =>
  withMount(async (mount) => {
    const ask = async (times: number): Promise<number> => {
      for (let i = 0; i < times; i++) await statfs(mount.mountpoint)
      return memoryOf(mount.pid)
    }
    const before = await ask(4000)
    const after = await ask(20_000)
    assert.ok(after - before < 12, `${String(before)} MiB of its own after 4,000 requests, ${String(after)} after 20,000 more`)
  }))
