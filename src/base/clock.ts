/**
 * The wall clock with the resolution that file times need.
 * Keeps: the time follows the system clock to a millisecond, and moves by microseconds within it.
 * Leaves: what a time is used for to the engine.
 */
import type { Timestamp } from './types.ts'

/** The wall clock as a Timestamp. `performance.timeOrigin + now()` has microseconds but drifts when the clock is set:
 *  it is used only while it agrees with `Date.now()` to the millisecond. */
export function now(): Timestamp {
  const coarse = Date.now()
  const fine = performance.timeOrigin + performance.now()
  const ms = Math.abs(fine - coarse) < 1.5 ? fine : coarse
  const sec = Math.floor(ms / 1000)
  return { sec, nsec: Math.min(999_999_999, Math.floor((ms - sec * 1000) * 1e6)) }
}
