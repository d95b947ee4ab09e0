/** A short run of the kill test; `npm run test:kills -- 1000` is a long one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { describe, killUnderWriters } from './kills.ts'

const kills = 12

for (const mode of ['standby', 'cold'] as const)
  test(`writers see no error and lose nothing while their FUSE process is killed at random (${mode})`, { timeout: 400_000 }, async (t) => {
    const seed = Math.floor(Math.random() * 1_000_000)
    t.diagnostic(`seed ${String(seed)}: node test/system/kills.ts ${String(kills)} ${String(seed)}`)
    const report = await killUnderWriters(kills, seed, mode)
    t.diagnostic(describe(report))
    assert.ok(report.busyKills > 0, 'no kill hit a busy process')
    assert.ok(report.operations > 0)
  })
