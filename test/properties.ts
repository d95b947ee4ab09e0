/**
 * How properties are tried with fast-check: for some seconds, from a seed that a failure prints and that replays it.
 * Keeps: time limits the search only; a counterexample is shrunk to its end.
 * Leaves: what is tried to the tests.
 */
import fc from 'fast-check'

/** How long each property is tried, in seconds. */
const seconds = Number(process.env['LITEVOL_PROPERTY_SECONDS'] ?? 10)

/** Tries `property` until the time is up. LITEVOL_SEED, and LITEVOL_PATH for the one counterexample, replay a failure. */
export function assertProperty<T>(property: fc.IProperty<T>): void {
  const { LITEVOL_SEED: seed, LITEVOL_PATH: path } = process.env
  if (seed !== undefined && path !== undefined) {
    fc.assert(property, { seed: Number(seed), path })
    return
  }
  const limits = { numRuns: 1_000_000, interruptAfterTimeLimit: seconds * 1000, endOnFailure: true }
  const found = fc.check(property, seed === undefined ? limits : { ...limits, seed: Number(seed) })
  if (found.failed) fc.assert(property, { seed: found.seed, path: found.counterexamplePath ?? '' })
}
