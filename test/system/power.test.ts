import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PowerRounds } from '../faults/power-rounds.ts'
import { withFolder } from '../support.ts'

const rounds = Number(process.env['LITEVOL_POWER_ROUNDS'] ?? 12)
const seed = Number(process.env['LITEVOL_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

test(`${rounds} power cuts: what was fsynced, and what was answered 201 or 204, is there; every check is clean (LITEVOL_TEST_SEED=${seed})`, (t) =>
  withFolder(async (folder) => {
    const power = new PowerRounds(folder, seed)
    for (let round = 0; round < rounds; round++) await power.round()
    await power.finish()
    t.diagnostic(JSON.stringify(power.tally))
    assert.ok(power.tally.facts > rounds, 'the applications got to sync something')
  }))
