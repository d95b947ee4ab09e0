/** What consumers see when litevol's container is restarted, killed, or a FUSE process in it dies. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, test } from 'node:test'
import { execa } from 'execa'
import { until } from '../support.ts'
import { Engine } from './engine.ts'
import { Manager, assertNothingMounted, hostMountRoot, hostMounts, readyLimitMs, type Consumer } from './manager.ts'

let engine: Engine
before(async () => (engine = await Engine.start()))
after(() => engine.stop())
afterEach(async () => {
  await engine.removeContainers()
  await engine.tryDocker(['volume', 'rm', 'litevol'])
})

/** Two consumers of one volume: one binds the mount root as README recommends, one the volume. */
async function startConsumers(manager: Manager, id: string): Promise<{ readonly ofRoot: Consumer; readonly ofVolume: Consumer }> {
  const ofRoot = await manager.keepConsumer('of-root', `${hostMountRoot}:/volumes:rslave`)
  const ofVolume = await manager.keepConsumer('of-volume', `${join(hostMountRoot, id)}:/data`)
  assert.equal(await ofRoot.run(`echo one >/volumes/${id}/file; cat /volumes/${id}/file`), 'one')
  assert.equal(await ofVolume.run('cat /data/file'), 'one')
  return { ofRoot, ofVolume }
}

test('after docker restart a consumer of the mount root goes on, one of the volume keeps a dead mount until it is restarted', async () => {
  const manager = await Manager.start(engine)
  const id = await manager.provide('kept', { persist: true })
  const { ofRoot, ofVolume } = await startConsumers(manager, id)
  await engine.docker(['restart', '-t', '10', 'litevol'])
  await manager.ready()
  assert.equal(await ofRoot.run(`cat /volumes/${id}/file; echo two >/volumes/${id}/second`), 'one')
  assert.match((await ofVolume.try('cat /data/file')).stderr, /not connected/)
  await engine.docker(['restart', '-t', '1', 'of-volume'])
  assert.equal(await ofVolume.run('cat /data/second'), 'two')
  await manager.stop()
})

test('a new container of litevol takes over the data of the one before, and the consumer of the mount root goes on', async () => {
  const manager = await Manager.start(engine)
  const id = await manager.provide('kept', { persist: true })
  const { ofRoot } = await startConsumers(manager, id)
  await manager.stop()
  await manager.remove()
  assertNothingMounted()
  assert.deepEqual((await ofRoot.run('ls -A /volumes')).trim(), '')
  const next = await Manager.start(engine)
  assert.equal(await ofRoot.run(`cat /volumes/${id}/file`), 'one')
  await next.stop()
})

for (const [what, revive] of [
  ['the same container', (manager: Manager) => manager.again()],
  [
    'a new container',
    async (manager: Manager) => {
      await manager.remove()
      await Manager.start(engine)
    },
  ],
] as const) {
  test(`docker kill -s KILL loses nothing that was synced, and no dead mount stays after the start of ${what}`, async () => {
    const manager = await Manager.start(engine)
    const [id, other] = [await manager.provide('kept', { persist: true }), await manager.provide('other')]
    const { ofRoot, ofVolume } = await startConsumers(manager, id)
    await ofRoot.run(`echo synced >/volumes/${id}/synced; sync /volumes/${id}/synced`)
    await engine.docker(['kill', '-s', 'KILL', 'litevol'])
    await until('the container is gone', async () => !(await manager.state()).Running, readyLimitMs)
    // Until then the host has dead mounts: nobody was left to unmount them.
    assert.deepEqual(hostMounts().sort(), [id, other].map((name) => join(hostMountRoot, name)).sort())
    for (const mount of hostMounts()) {
      assert.match((await execa('timeout', ['10', 'ls', mount], { reject: false, env: { LC_ALL: 'C' } })).stderr, /not connected/)
    }
    assert.match((await ofRoot.try(`ls /volumes/${id}`)).stderr, /not connected/)
    await revive(manager)
    assert.deepEqual(hostMounts(), [join(hostMountRoot, id)])
    assert.deepEqual(readdirSync(hostMountRoot), [id])
    assert.equal(await ofRoot.run(`cat /volumes/${id}/file /volumes/${id}/synced; ls -A /volumes`), `one\nsynced\n${id}`)
    assert.equal(await manager.inside('ls "$LITEVOL_RUN_DIR"'), id)
    assert.match((await ofVolume.try('ls /data')).stderr, /not connected/)
    await engine.docker(['restart', '-t', '1', 'of-volume'])
    assert.equal(await ofVolume.run('cat /data/synced'), 'synced')
    await manager.stop()
    assertNothingMounted()
  })
}

test('a FUSE process that is killed in the container is a pause for the others, not an error, however they bind', async () => {
  const manager = await Manager.start(engine)
  const id = await manager.provide('killed')
  const { ofRoot, ofVolume } = await startConsumers(manager, id)
  // Each writes lines for as long as they are told; any error ends them with another status than 0.
  const write = (folder: string): string =>
    `set -e; n=0; while [ ! -e ${folder}/stop ]; do n=$((n + 1)); echo $n >>${folder}/$0; done; tail -n 1 ${folder}/$0; wc -l <${folder}/$0`
  const writers = [
    engine.docker(['exec', 'of-root', 'timeout', '200', 'sh', '-c', write(`/volumes/${id}`), 'root'], { timeoutMs: 220_000 }),
    engine.docker(['exec', 'of-volume', 'timeout', '200', 'sh', '-c', write('/data'), 'volume'], { timeoutMs: 220_000 }),
  ]
  const status = async (): Promise<Readonly<Record<string, unknown>>> => (await manager.call('GET', `/volumes/${id}/mount`)).body
  const lines = async (): Promise<number> => Number(await ofRoot.run(`cat /volumes/${id}/root /volumes/${id}/volume | wc -l`))
  // As on any host: one process serves, another stands by for it.
  const standing = 'cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" " " | grep -o "litevol: standing by" | sort -u; true'
  await until('one stands by', async () => (await manager.inside(standing)) !== '', readyLimitMs)
  for (let kills = 1; kills <= 3; kills++) {
    const before = await lines().catch(() => 0)
    await until('the writers go on', async () => (await lines().catch(() => 0)) > before, readyLimitMs)
    await manager.inside(`kill -KILL ${String((await status())['pid'])}`)
    await until('it is replaced', async () => (await status())['restarts'] === kills, readyLimitMs)
  }
  const before = await lines()
  await until('the writers go on', async () => (await lines()) > before, readyLimitMs)
  await ofRoot.run(`touch /volumes/${id}/stop`)
  for (const written of await Promise.all(writers)) {
    const [last, count] = written.split('\n')
    assert.equal(last, count)
  }
  assert.equal(await ofVolume.run('cat /data/file'), 'one')
  await manager.stop()
})
