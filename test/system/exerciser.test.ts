import assert from 'node:assert/strict'
import { test } from 'node:test'
import { exercise, randomSeed, type Summary } from './exerciser.ts'

function assertWhole({ operations, counts, holeBytes }: Summary): void {
  assert.equal(operations, 6000)
  assert.ok((counts['allocate'] ?? 0) > 0)
  assert.ok(holeBytes > 0, 'no hole was ever seen: SEEK_HOLE was not tried')
}

test('random operations on a volume and on the host filesystem end alike, over a remount: a fixed seed', async () => {
  assertWhole(await exercise(['--seed', '20250117', '--operations', '6000', '--remount-every', '2000']))
})

test('random operations on a volume and on the host filesystem end alike, over remounts: a new seed', async () => {
  assertWhole(await exercise(['--seed', randomSeed(), '--operations', '6000', '--remount-every', '2000']))
})
