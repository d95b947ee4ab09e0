/** Short runs of the kill tests; `npm run test:kills -- 1000` is a long one of each, `… 1000 SEED MODE` of one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { killManagers } from './kills/managers.ts'
import { killMounts } from './kills/mounts.ts'
import { killProcesses } from './kills/processes.ts'
import { describe } from './kills/report.ts'

const limit = { timeout: 300_000 }

const seed = Number(process.env['LITEVOL_TEST_SEED'] ?? Math.floor(Math.random() * 1_000_000))

for (const mode of ['standby', 'cold'] as const)
  test(
    `consumers see no error and lose nothing while their FUSE process is killed at random (${mode}, LITEVOL_TEST_SEED=${seed})`,
    limit,
    async (t) => {
      const report = await killProcesses(10, seed, mode)
      t.diagnostic(describe(report))
      assert.ok(report.busyKills > 0, 'no kill hit a busy process')
      assert.equal(report.errors, 0)
    },
  )

test(
  `nobody hangs where the kernel cannot send requests again, and a kill costs one request at most (LITEVOL_TEST_SEED=${seed})`,
  limit,
  async (t) => {
    const report = await killProcesses(10, seed, 'no-resend')
    t.diagnostic(describe(report))
    assert.ok(report.busyKills > 0, 'no kill hit a busy process')
  },
)

test(`what was acknowledged is there after the whole mount was killed (LITEVOL_TEST_SEED=${seed})`, limit, async (t) => {
  t.diagnostic(describe(await killMounts(4, seed)))
})

test(`records agree with reality after the manager was killed, alone or with all others (LITEVOL_TEST_SEED=${seed})`, limit, async (t) => {
  t.diagnostic(describe(await killManagers(3, seed)))
})
