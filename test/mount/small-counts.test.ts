/** Counts in pages answer as a Map does. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SmallCounts } from '../../src/mount/small-counts.ts'
import { seededNumbers } from '../support.ts'

for (const [what, spread] of [
  ['side by side', 300],
  ['a few pages', 5000],
  ['far apart', 2 ** 31],
] as const) {
  test(`counts ${what} answer as a Map does, small, large and gone again`, () => {
    const random = seededNumbers(spread)
    const counts = new SmallCounts()
    const expected = new Map<number, number>()
    const keys = Array.from({ length: 500 }, () => (random() % spread) * (random() % 2 === 0 ? 1 : 2 ** 20))
    const amounts = [0, 0, 0, 1, 2, 254, 255, 256, 70_000, 2 ** 40]
    for (let round = 0; round < 50_000; round++) {
      const key = keys[random() % keys.length] ?? 0
      const count = amounts[random() % amounts.length] ?? 0
      counts.set(key, count)
      expected.set(key, count)
      const other = keys[random() % keys.length] ?? 0
      assert.equal(counts.get(other), expected.get(other) ?? 0, String(other))
    }
    for (const key of keys) assert.equal(counts.get(key), expected.get(key) ?? 0)
    for (const key of keys) counts.set(key, 0)
    for (const key of keys) assert.equal(counts.get(key), 0)
  })
}
