/**
 * The dirty limit of a mount while it lasts, under a memory limit: what was left of that when the mount began may be taken since, by
 * other mounts, by the process that stands by, by consumers in the same group.
 * Keeps: nothing is done where there is no memory limit, or where the change is small.
 * Leaves: how far, and setting it, to fuse/dirty-limit.ts.
 */
import type { Logger } from '../base/index.ts'
import { mayPlanChange, planDirtyLimit, setDirtyLimit, type DirtyPlan } from '../fuse/index.ts'

/** How often it looks, in ms. */
const intervalMs = 2000

/** Which part of the limit a change must be to be made. */
const leastChange = 1 / 8

/** Starts it for the mount of that device number; returns how to stop it. */
export function followMemory(device: { readonly major: number; readonly minor: number }, logger: Logger): () => void {
  if (!mayPlanChange()) return () => undefined
  let current = planDirtyLimit()
  const timer = setInterval(() => {
    const wanted = planDirtyLimit()
    if (!isChange(current, wanted)) return
    current = wanted
    logger.debug({ dirtyLimit: setDirtyLimit(device, wanted) }, 'dirty limit')
  }, intervalMs)
  return () => {
    clearInterval(timer)
  }
}

function isChange(current: DirtyPlan, wanted: DirtyPlan): boolean {
  if (current.kind !== 'bytes' || wanted.kind !== 'bytes') return current.kind !== wanted.kind
  return Math.abs(wanted.bytes - current.bytes) > current.bytes * leastChange
}
