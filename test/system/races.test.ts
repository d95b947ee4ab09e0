/** A short run of the race test; `npm run test:races -- 60` is a long one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { race } from './races.ts'

const seconds = 12

test(
  '64 clients do everything at once with the same few volumes: no fault, nothing left, the records agree',
  { timeout: 300_000 },
  async (t) => {
    const seed = Math.floor(Math.random() * 1_000_000)
    t.diagnostic(`npm run test:races -- ${String(seconds)} ${String(seed)}`)
    const { answers, writes } = await race(seconds, seed)
    t.diagnostic(JSON.stringify({ ...answers, writes }))
    for (const needed of [
      'create 201',
      'mount 200',
      'unmount 204',
      'restart 204',
      'export 200',
      'stat 200',
      'checkpoint 200',
      'delete 204',
    ])
      assert.ok((answers[needed] ?? 0) > 0, `${needed} was never tried`)
    assert.ok(writes > 0)
  },
)
