/** The process that stands by: the one that may be lost, and nobody notices. */
import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { test } from 'node:test'
import { until } from '../support.ts'
import { shell, withMount, type TestMount } from './support.ts'

/** The loaded process that waits for the mount's server to die. */
async function findStandby(mount: TestMount): Promise<number> {
  let found: number | undefined
  await until('a process stands by', () => {
    const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
    found = pids.map(Number).find((pid) => read(pid, 'cmdline').startsWith(`litevol: standing by for ${mount.file}`))
    return found !== undefined && read(found, 'oom_score_adj') === '1000\n'
  })
  return found ?? assert.fail('no process stands by')
}

function read(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${String(pid)}/${name}`, 'utf8')
  } catch {
    return '' // it has ended since
  }
}

async function served(mount: TestMount, before: number): Promise<void> {
  await until('another process serves', () => mount.pid !== before)
}

test('the process that stands by is the first to be killed for want of memory, and one among others once it serves', () =>
  withMount(
    async (mount) => {
      const usual = read(process.pid, 'oom_score_adj')
      const { pid } = mount
      assert.equal(read(pid, 'oom_score_adj'), usual)
      const standby = await findStandby(mount)
      process.kill(pid, 'SIGKILL')
      await served(mount, pid)
      assert.equal(mount.pid, standby)
      assert.equal(read(standby, 'oom_score_adj'), usual)
    },
    { mode: 'standby' },
  ))

test("what a keeper's own child left when it was killed keeps no successor from taking over", () =>
  withMount(
    async (mount) => {
      const { pid } = mount
      await shell('for folder in "$1"-run-*; do mkfifo "$folder/wake"; done', mount.mountpoint) // as when the rm of stand_by was killed
      process.kill(pid, 'SIGKILL')
      assert.equal(await shell('echo kept > "$1/a"; cat "$1/a"', mount.mountpoint), 'kept\n')
      await served(mount, pid)
    },
    { mode: 'cold' },
  ))

test('when the process that stands by was killed, another one takes over all the same', () =>
  withMount(
    async (mount) => {
      const { pid } = mount
      process.kill(await findStandby(mount), 'SIGKILL')
      process.kill(pid, 'SIGKILL')
      await shell('echo kept > "$1/a"; cat "$1/a"', mount.mountpoint)
      await served(mount, pid)
      process.kill(await findStandby(mount), 'SIGKILL')
      const second = mount.pid
      mount.keeper.replace()
      await served(mount, second)
      assert.equal(await shell('cat "$1/a"', mount.mountpoint), 'kept\n')
    },
    { mode: 'standby' },
  ))
