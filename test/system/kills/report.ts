/** What a kill test has found, and the line of figures that says it. */

export interface KillReport {
  readonly kills: number
  /** Operations of the consumers. */
  readonly operations: number
  /** Errors that they were told of and may be. */
  readonly errors: number
  /** More figures, in words. */
  readonly more: readonly string[]
}

export function describe({ kills, operations, errors, more }: KillReport): string {
  return [`${String(kills)} kills`, `${String(operations)} operations`, `${String(errors)} errors`, ...more].join(', ')
}

/** Percentiles of times in ms. */
export function describeTimes(name: string, times: readonly number[]): string {
  const ascending = [...times].sort((a, b) => a - b)
  const at = (part: number): string => (ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * part))] ?? 0).toFixed(0)
  return `${name} p50 ${at(0.5)} ms, p95 ${at(0.95)} ms, longest ${at(1)} ms`
}
