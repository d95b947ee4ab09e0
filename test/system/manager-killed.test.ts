/** Promise 2 when the manager dies: its mounts are served on, and a new manager finds them. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { until } from '../support.ts'
import { shell } from '../mount/support.ts'
import { startProcess } from '../posix/process.ts'
import { Service, withRoots } from './support.ts'

const root = { uid: 0, gid: 0, groups: [], umask: 0o22 }

/** How long the records may take to say what is, in ms. */
const recordsLimitMs = 30_000

test('a killed manager is no error for a writer, with its FUSE process killed too; the next one takes all over', { timeout: 200_000 }, () =>
  withRoots(async (roots, folder) => {
    const environment = { LITEVOL_RUN_DIR: `${folder}/run` }
    const first = await Service.start(roots, environment)
    const id = await first.create('kept')
    const mountpoint = await first.mount(id)
    const { pid } = (await first.call('GET', `/volumes/${id}/mount`)).body
    const p = startProcess(mountpoint, root)
    try {
      const fd = await p.open('log', 0o101, 0o644)
      await p.write(fd, 'before ')
      first.child.kill('SIGKILL')
      await once(first.child, 'exit')
      await p.write(fd, 'without ')
      await p.fsync(fd)
      process.kill(Number(pid), 'SIGKILL')
      await p.write(fd, 'restarted ')
      await p.fsync(fd)
      const second = await Service.start(roots, environment)
      try {
        await isMountedBy(second, id, Number(pid))
        await p.write(fd, 'adopted')
        await p.fsync(fd)
        await p.close(fd)
        assert.equal(await p.get('log'), 'before without restarted adopted')
        process.kill(Number((await second.call('GET', `/volumes/${id}/mount`)).body['pid']), 'SIGKILL')
        assert.deepEqual(await p.listdir('.'), ['log'])
        await second.stop()
      } finally {
        if (second.child.exitCode === null) second.child.kill('SIGKILL')
      }
      await assert.rejects(p.put('late', ''), /connect|stale/i)
    } finally {
      await p.stop()
    }
  }),
)

/** Waits until the manager says that another process than `pid` serves the volume. */
async function isMountedBy(service: Service, id: string, pid: number): Promise<void> {
  const deadline = Date.now() + recordsLimitMs
  for (;;) {
    const { body } = await service.call('GET', `/volumes/${id}/mount`)
    if (body['mounted'] === true && body['pid'] !== pid && body['pid'] !== null) return
    assert.ok(Date.now() < deadline, JSON.stringify(body))
    await sleep(50)
  }
}

test('a mount that was taken over is unmounted in order, by a call, by umount(8) and by a stop', { timeout: 200_000 }, () =>
  withRoots(async (roots) => {
    const first = await Service.start(roots)
    const ids = await Promise.all(['called', 'outside', 'stopped'].map((name) => first.create(name)))
    const mountpoints: string[] = []
    for (const id of ids) mountpoints.push(await first.mount(id))
    for (const mountpoint of mountpoints) await shell('echo kept > "$1/a"', mountpoint)
    first.child.kill('SIGKILL')
    await once(first.child, 'exit')
    const second = await Service.start(roots)
    const stateOf = async (id = ''): Promise<unknown> => (await second.call('GET', `/volumes/${id}`)).body['state']
    const [called, outside, stopped] = ids
    const { status, body } = await second.call('DELETE', `/volumes/${String(called)}/mount`)
    assert.equal(status, 204, JSON.stringify(body))
    await shell('umount "$1"', mountpoints[1] ?? '')
    await until('umount(8) is noticed', async () => (await stateOf(outside)) !== 'mounted')
    assert.deepEqual([await stateOf(called), await stateOf(outside), await stateOf(stopped)], ['unmounted', 'unmounted', 'mounted'])
    await second.stop()
    assert.ok(!second.output.some((line) => /"level":(50|60)/.test(line)), second.output.join('\n'))
  }),
)
