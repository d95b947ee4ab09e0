/**
 * What an unmount waits for, and what it says when it must not go on.
 * Keeps: each wait ends. Leaves: the order of an unmount to volume.ts.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { ErrnoError } from '../base/index.ts'
import type { Exit } from './keeper.ts'
import type { MountProcess } from './mount-process.ts'
import { callTimeoutMs } from './options.ts'

/**
 * So many looks, with this pause in ms between two, are given to open handles to close before an unmount is refused. Counted in looks:
 * while a machine stands still the kernel tells of no close either.
 */
const releaseLooks = 50
const releasePauseMs = 10

/** Open handles. The kernel tells of a close(2) after it has returned: handles are seen to go for a moment before they count. */
export async function countHandles(process: MountProcess): Promise<number> {
  const deadline = Date.now() + callTimeoutMs // for a process that is slow to answer
  for (let looks = 1; ; looks++) {
    const { handles } = await process.call('status', {}, callTimeoutMs)
    if (handles === 0 || looks === releaseLooks || (looks > 1 && Date.now() > deadline)) return handles
    await sleep(releasePauseMs)
  }
}

/** How the process ended; one that has not after `timeoutMs` is killed. */
export async function waitForExit(process: MountProcess, timeoutMs: number): Promise<Exit> {
  const timer = setTimeout(() => {
    process.kill()
  }, timeoutMs)
  try {
    return await process.exited
  } finally {
    clearTimeout(timer)
  }
}

/** EBUSY `busy` of a volume, with how many of each kind use it. */
export function busyError(id: string, handles: number, exports: number): ErrnoError {
  const users = [handles > 0 ? `${String(handles)} open handles` : '', exports > 0 ? `${String(exports)} running exports` : '']
  const by = users.filter((user) => user !== '').join(' and ')
  return new ErrnoError('EBUSY', `volume ${id}: is in use${by === '' ? '' : `: ${by}`}`, {
    context: { handles, exports },
    hint: 'end what uses it, or say ?force=true',
  })
}
