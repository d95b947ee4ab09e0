/** Short leak loops; `npm run test:leaks` has the long ones. */
import { test } from 'node:test'
import { assertFlat, loopExports, loopMounts, loopRestarts } from './leaks.ts'

const limit = { timeout: 300_000 }

test('mounting, working and unmounting leaves nothing behind', limit, async () => {
  assertFlat(await loopMounts(6))
})

test('exports that are whole, cut and resumed leave nothing behind', limit, async () => {
  assertFlat(await loopExports(12))
})

test('restarts under open files leave nothing behind, and their files do not grow', limit, async () => {
  assertFlat(await loopRestarts(5))
})
