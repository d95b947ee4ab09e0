/**
 * Mounts whose FUSE processes are killed at failpoints (src/mount/failpoint.ts).
 * Keeps: a failpoint that was not reached fails the test; the variables are set for the processes of that mount only.
 */
import { startProcess, type Process } from '../posix/process.ts'
import { withMount, type MountChoice, type TestMount } from './support.ts'

const root = { uid: 0, gid: 0, groups: [], umask: 0o22 }

/** Runs `work` on a mount whose processes have these failpoints, one for each generation; all of them must have been reached. */
export async function withFailpoints(
  failpoints: readonly string[],
  work: (mount: TestMount, p: Process) => Promise<void>,
  choice: MountChoice = {},
  environment: Readonly<Record<string, string>> = {},
): Promise<void> {
  const set = { ...environment, LITEVOL_FAILPOINT: failpoints.join(',') }
  const unset = (): void => {
    for (const name of Object.keys(set)) Reflect.deleteProperty(process.env, name)
  }
  Object.assign(process.env, set)
  try {
    await withMount(
      async (mount) => {
        unset()
        const p = startProcess(mount.mountpoint, root)
        try {
          await work(mount, p)
          await restarted(mount, failpoints.filter((failpoint) => failpoint !== '').length)
        } finally {
          await p.stop()
        }
      },
      { mode: 'cold', ...choice },
    )
  } finally {
    unset()
  }
}

/** Waits until the successor of so many processes serves. */
export async function restarted(mount: TestMount, times: number): Promise<void> {
  await mount.until((event): event is Extract<typeof event, { type: 'ready' }> => event.type === 'ready' && event.generation > times)
}
