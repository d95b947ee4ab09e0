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
 * How often it is looked whether a handle that is open is closed before an unmount is refused, and the pause between two looks, in ms.
 * Counted in looks, since a machine that stands still for a moment tells of no close either.
 */
const releaseLooks = 50
const releasePauseMs = 10

/** Open handles. The kernel tells of a close(2) after it has returned: handles are seen to go for a moment before they count. */
export async function countHandles(process: MountProcess): Promise<number> {
  for (let looks = 1; ; looks++) {
    const { handles } = await process.call('status', {}, callTimeoutMs)
    if (handles === 0 || looks === releaseLooks) return handles
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
