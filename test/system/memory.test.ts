/** A short run of the memory test; `npm run test:memory -- 384` is a long one, with other arrangements. */
import { test } from 'node:test'
import { MemoryGroup } from '../faults/memory-group.ts'
import { describe, kinds, writeUnderPressure } from './memory.ts'

const MIB = 2 ** 20
const pressure = { arrangement: 'together', kinds, volumes: 1, bytes: 80 * MIB, limitBytes: 300 * MIB, limitMs: 300_000 } as const

test(
  'service and writers with 300 MiB for both: nobody hangs or is killed, and every file is there by its hash',
  { skip: MemoryGroup.whyNone(), timeout: 500_000 },
  async (t) => {
    const seed = Math.floor(Math.random() * 1_000_000)
    t.diagnostic(`seed ${String(seed)}`)
    t.diagnostic(describe(await writeUnderPressure({ ...pressure, seed })))
  },
)
