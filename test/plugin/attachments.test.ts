/** Attachments: which containers have a volume, and what that means for its mount, its removal and a restart. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { shell } from '../mount/support.ts'
import { startProcess } from '../posix/process.ts'
import type { Service } from '../system/support.ts'
import { seededNumbers, until } from '../support.ts'
import { useId, withEngine, withPlugin, type Engine } from './support.ts'

const limit = { timeout: 120_000 }
const root = { uid: 0, gid: 0, groups: [], umask: 0o22 }

/** Who has a volume attached, as the API and the plugin say. */
async function attached(engine: Engine, service: Service, name: string): Promise<string[]> {
  const { id, attachments } = (await engine.get(name)).Status
  const record = (await service.call('GET', `/volumes/${String(id)}`)).body
  assert.deepEqual(record['attachments'], attachments)
  return (attachments as readonly { id: string; since: string }[]).map((attachment) => attachment.id)
}

async function stateOf(engine: Engine, name: string): Promise<unknown> {
  return (await engine.get(name)).Status['state']
}

test('a volume is mounted with the first attachment and unmounted with the last; the same id twice is one', limit, () =>
  withPlugin(async (engine, service) => {
    await engine.do('Create', { Name: 'v' })
    const mountpoint = await engine.mount('v', useId(1))
    await shell('echo kept > "$1/a"', mountpoint)
    assert.equal(await engine.mount('v', useId(1)), mountpoint)
    assert.equal(await engine.mount('v', useId(2)), mountpoint)
    assert.deepEqual(await attached(engine, service, 'v'), [useId(1), useId(2)])
    await until('the file is closed', async () => (await engine.get('v')).Status['handles'] === 0)
    assert.partialDeepStrictEqual((await engine.get('v')).Status, { state: 'mounted', driver: 'direct', read_only: false })
    await engine.unmount('v', useId(1))
    await engine.unmount('v', useId(1))
    await engine.unmount('v', useId(9))
    await engine.unmount('nothing', useId(9))
    assert.equal(await shell('cat "$1/a"', mountpoint), 'kept\n', 'the second one has it still')
    await engine.unmount('v', useId(2))
    assert.deepEqual([await stateOf(engine, 'v'), await attached(engine, service, 'v')], ['unmounted', []])
    assert.equal(await shell('ls "$1"', service.roots.mountRoot), '')
    assert.equal(await shell('cat "$1/a"', await engine.mount('v', useId(3))), 'kept\n')
    await engine.unmount('v', useId(3))
  }),
)

test('what the API has mounted, or what persists, stays mounted when the last attachment goes', limit, () =>
  withPlugin(async (engine, service) => {
    const [plain, persistent] = [await service.create('plain'), await service.create('persistent')]
    await service.mount(plain)
    await service.mount(persistent, { persist: true })
    for (const name of ['plain', 'persistent']) {
      await engine.mount(name, useId(1))
      await engine.unmount(name, useId(1))
      assert.equal(await stateOf(engine, name), 'mounted', name)
    }
    await service.call('DELETE', `/volumes/${plain}/mount`)
    await engine.mount('plain', useId(1))
    await engine.unmount('plain', useId(1))
    assert.equal(await stateOf(engine, 'plain'), 'unmounted', 'mounted by us this time')
  }),
)

test('a volume that is attached is neither removed nor unmounted, and who has it is said; by force it is, for everybody', limit, () =>
  withPlugin(async (engine, service) => {
    const id = await service.create('held')
    await engine.mount('held', useId(1))
    await engine.mount('held', useId(2))
    const refusal = await engine.refuse('Remove', { Name: 'held' })
    for (const use of [useId(1), useId(2)]) assert.ok(refusal.includes(use), refusal)
    for (const path of [`/volumes/${id}`, `/volumes/${id}/mount`]) {
      const { status, body } = await service.call('DELETE', path)
      assert.deepEqual([status, body['code']], [409, 'busy'])
      assert.deepEqual((body['attachments'] as readonly { id: string }[]).map((one) => one.id), [useId(1), useId(2)]) // prettier-ignore
    }
    assert.equal((await service.call('POST', `/volumes/${id}/mount`, {})).body['code'], 'mounted')
    assert.equal((await service.call('DELETE', `/volumes/${id}/mount?force=true`)).status, 204)
    assert.deepEqual(await attached(engine, service, 'held'), [])
    await engine.unmount('held', useId(1))
    await engine.mount('held', useId(2))
    assert.equal((await service.call('DELETE', `/volumes/${id}?force=true`)).status, 204)
    await engine.unmount('held', useId(2))
    assert.deepEqual(service.volumeFiles(), [])
  }),
)

test('attached volumes are mounted again after a restart, and end with their last attachment', limit, () =>
  withEngine(async ({ engine, start }) => {
    const first = await start()
    for (const name of ['v', 'both']) await engine.do('Create', { Name: name })
    const mountpoint = await engine.mount('v', useId(1))
    const other = await first.mount(String((await engine.get('both')).Status['id']))
    await engine.mount('both', useId(1))
    await shell('echo kept | tee "$1/a" > "$2/a"', mountpoint, other)
    await first.stop()
    const second = await start()
    assert.equal(await shell('cat "$1/a" "$2/a"', mountpoint, other), 'kept\nkept\n')
    assert.deepEqual(await attached(engine, second, 'v'), [useId(1)])
    assert.equal(await engine.mount('v', useId(1)), mountpoint)
    for (const name of ['v', 'both']) {
      await engine.unmount(name, useId(1))
      assert.equal(await stateOf(engine, name), 'unmounted', `${name}: the mount of the API ended with the service`)
    }
  }),
)

test('a killed service: containers go on, the next one knows who has what, and what it had mounted itself', limit, () =>
  withEngine(async ({ engine, start }) => {
    const first = await start()
    await engine.do('Create', { Name: 'v' })
    const mine = await first.create('mine')
    await first.mount(mine)
    const mountpoint = await engine.mount('v', useId(1))
    await engine.mount('mine', useId(1))
    const p = startProcess(mountpoint, root)
    try {
      const fd = await p.open('log', 0o101, 0o644)
      first.child.kill('SIGKILL')
      await once(first.child, 'exit')
      await p.write(fd, 'meanwhile')
      const second = await start()
      assert.deepEqual(await attached(engine, second, 'v'), [useId(1)])
      assert.equal(await engine.mount('v', useId(1)), mountpoint, 'an engine asks again after a lost reply')
      await p.close(fd)
    } finally {
      await p.stop()
    }
    assert.equal(await shell('cat "$1/log"', mountpoint), 'meanwhile')
    for (const name of ['v', 'mine']) await engine.unmount(name, useId(1))
    assert.deepEqual([await stateOf(engine, 'v'), await stateOf(engine, 'mine')], ['unmounted', 'mounted'])
  }),
)

test('a volume in use by others than containers stays mounted after the last attachment, until it is used again or removed', limit, () =>
  withPlugin(async (engine, service) => {
    await engine.do('Create', { Name: 'v' })
    const p = startProcess(await engine.mount('v', useId(1)), root)
    try {
      const fd = await p.open('held', 0o101, 0o644)
      await engine.unmount('v', useId(1))
      assert.deepEqual([await stateOf(engine, 'v'), await attached(engine, service, 'v')], ['mounted', []])
      assert.match(await engine.refuse('Remove', { Name: 'v' }), /in use: 1 open handle/)
      await p.write(fd, 'safe')
      await p.close(fd)
    } finally {
      await p.stop()
    }
    assert.equal(await shell('cat "$1/held"', await engine.mount('v', useId(2))), 'safe')
    await engine.unmount('v', useId(2))
    assert.equal(await stateOf(engine, 'v'), 'unmounted')
  }),
)

test('the restart after such an end ends the mount, and leaves nothing of it', limit, () =>
  withEngine(async ({ engine, start }) => {
    const first = await start()
    await engine.do('Create', { Name: 'v' })
    const p = startProcess(await engine.mount('v', useId(1)), root)
    try {
      await p.open('held', 0o101, 0o644)
      await engine.unmount('v', useId(1))
      first.child.kill('SIGKILL')
      await once(first.child, 'exit')
    } finally {
      await p.stop()
    }
    await start()
    await until('the volume is unmounted', async () => (await stateOf(engine, 'v')) === 'unmounted')
  }),
)

test('calls that cross each other, in any order, leave the set that the last of each id says', limit, () =>
  withPlugin(async (engine, service) => {
    await engine.do('Create', { Name: 'v' })
    const seed = Number(process.env['LITEVOL_SEED'] ?? 6)
    const next = seededNumbers(seed)
    for (let round = 0; round < 6; round++) {
      const last = new Map<string, boolean>()
      const calls: Promise<unknown>[] = []
      for (let n = 0; n < 12; n++) {
        const [id, isMount] = [useId(next() % 4), next() % 2 === 0]
        // Two calls for one id in flight have no order that anybody promises; an engine does not do that.
        if (last.has(id)) continue
        last.set(id, isMount)
        calls.push(isMount ? engine.mount('v', id) : engine.unmount('v', id))
      }
      const before = await attached(engine, service, 'v')
      await Promise.all(calls)
      const expected = new Set([...before.filter((id) => last.get(id) !== false), ...[...last.keys()].filter((id) => last.get(id))])
      assert.deepEqual(new Set(await attached(engine, service, 'v')), expected, `seed ${String(seed)}, round ${String(round)}`)
      assert.equal(await stateOf(engine, 'v'), expected.size > 0 ? 'mounted' : 'unmounted')
    }
    for (let n = 0; n < 4; n++) await engine.unmount('v', useId(n))
    assert.equal(await stateOf(engine, 'v'), 'unmounted')
  }),
)
