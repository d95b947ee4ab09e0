/**
 * A real manager in a temporary data root, with a mount root of its own.
 * Keeps: afterwards the manager is closed, nothing is mounted below the folder, and the folder is gone.
 */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { mkdirSync } from 'node:fs'
import { makeLogger } from '../../src/base/index.ts'
import { listMounts } from '../../src/fuse/mount.ts'
import { JournalStore, VolumeManager, type ManagerOptions } from '../../src/manager/index.ts'
import { withFolder } from '../support.ts'

export const silent = makeLogger('test', 'silent')

export interface ManagerFixture {
  readonly options: ManagerOptions
  /** The folder of the volume files. */
  readonly volumes: string
  /** Starts a manager; a second one only after the first is closed. */
  readonly start: () => VolumeManager
}

/** Time limits that a loaded machine keeps too; leases long enough for every test. */
const limits = {
  exportLeaseMs: 60_000,
  exportStallMs: 60_000,
  exportWalLimit: 2 ** 30,
  mountTimeoutMs: 30_000,
  unmountTimeoutMs: 30_000,
  stopTimeoutMs: 8000,
}

/** Runs `work` with roots in which it starts managers. Those it leaves open are closed. */
export async function withManagers(work: (fixture: ManagerFixture) => Promise<void>, change: Partial<ManagerOptions> = {}): Promise<void> {
  await withFolder(async (folder) => {
    const mountRoot = join(folder, 'mnt')
    mkdirSync(mountRoot)
    const options = {
      dataRoot: join(folder, 'data'),
      runRoot: join(folder, 'run'),
      hasStandby: false,
      isLowLatency: false,
      mountRoot,
      hostMountRoot: '/host/mnt',
      isHostElsewhere: false,
      driver: 'direct' as const,
      logLevel: 'warn' as const,
      ...limits,
      ...change,
    }
    const running = new Set<VolumeManager>()
    const start = (): VolumeManager => {
      const manager = new VolumeManager(JournalStore.open(options.dataRoot, silent), options, silent)
      running.add(manager)
      return manager
    }
    try {
      await work({ options, volumes: join(options.dataRoot, 'volumes'), start })
    } finally {
      for (const manager of running) await manager.close()
      const left = listMounts().filter(({ mountpoint }) => mountpoint.startsWith(`${folder}/`))
      for (const { mountpoint } of left.toReversed()) execFileSync('umount', ['-l', '-c', mountpoint])
      if (left.length > 0) throw new Error(`left mounted: ${left.map(({ mountpoint }) => mountpoint).join(', ')}`)
    }
  })
}
