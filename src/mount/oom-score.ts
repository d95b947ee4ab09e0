/**
 * Whom the kernel kills first when memory runs out: proc_pid_oom_score_adj(5).
 * Keeps: the process that stands by goes before any other, since nobody waits for it; who serves is judged as every program is.
 * Leaves: starting another one to the keeper.
 */
import { readFileSync, writeFileSync } from 'node:fs'

const file = '/proc/self/oom_score_adj'

/** The value that puts a process before all others. */
const firstVictim = '1000'

/** Makes this process the first to be killed; returns how to make it one among others again. Does nothing where /proc cannot be written. */
export function volunteer(): () => void {
  try {
    const before = readFileSync(file, 'utf8').trim()
    writeFileSync(file, firstVictim)
    return () => {
      tryWrite(before) // lowering it to where it was needs no capability
    }
  } catch {
    return () => undefined
  }
}

/** Who takes over must not die of this. */
function tryWrite(value: string): void {
  try {
    writeFileSync(file, value)
  } catch {
    // It goes on as the first to be killed: its successor is loaded anew by then.
  }
}
