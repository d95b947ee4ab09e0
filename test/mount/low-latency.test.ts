/** CPUs that are kept awake while a mount is busy: the device is held then, and only then. */
import assert from 'node:assert/strict'
import { accessSync, constants, readdirSync, readlinkSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'node:test'
import { latencyDevice } from '../../src/mount/messages.ts'
import { shell, withMount, type TestMount } from './support.ts'

const skip = canHold() ? false : `${latencyDevice} cannot be opened here`

function canHold(): boolean {
  try {
    accessSync(latencyDevice, constants.R_OK | constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** Whether a process has the device open. */
function isHeld(pid: number): boolean {
  const folder = `/proc/${String(pid)}/fd`
  return readdirSync(folder).some((fd) => {
    try {
      return readlinkSync(`${folder}/${fd}`) === latencyDevice
    } catch {
      return false // closed meanwhile
    }
  })
}

async function awaitHeld(pid: number, wanted: boolean): Promise<void> {
  const deadline = Date.now() + 60_000
  while (isHeld(pid) !== wanted) {
    assert.ok(Date.now() < deadline, wanted ? 'was never held' : 'is still held')
    await sleep(20)
  }
}

/** Asks for an attribute again and again, which the kernel does not cache, until `work` has ended. */
async function whileBusy({ mountpoint }: TestMount, work: () => Promise<void>): Promise<void> {
  const stop = `${mountpoint}-stop`
  const asking = shell(`python3 -c 'import os, sys
while not os.path.exists(sys.argv[1] + "-stop"):
    for _ in range(100):
        try: os.getxattr(sys.argv[1], "user.none")
        except OSError: pass' "$1"; rm "$1-stop"`, mountpoint) // prettier-ignore
  try {
    await work()
  } finally {
    await shell(': > "$1"', stop)
    await asking
  }
}

test('with low latency the device is held while requests come, and given back when they stop', { skip }, () =>
  withMount(
    async (mount) => {
      assert.equal(isHeld(mount.pid), false)
      await whileBusy(mount, () => awaitHeld(mount.pid, true))
      await awaitHeld(mount.pid, false)
    },
    { isLowLatency: true },
  ),
)

test('without it no request makes the process open the device', { skip }, () =>
  withMount((mount) =>
    whileBusy(mount, async () => {
      const served = async (): Promise<number> => (await mount.call('status', {})).requests
      const before = await served()
      while ((await served()) < before + 2000) assert.equal(isHeld(mount.pid), false)
    }),
  ),
)
