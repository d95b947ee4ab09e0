/**
 * The volume driver with podman, which has no daemon: each command asks the driver itself, with one id for all containers.
 * Leaves: what the driver does to plugin.test.ts.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { Service, withRoots } from '../system/support.ts'
import { runFolder } from './engine.ts'
import { Podman } from './podman.ts'

test('podman volume create --driver, run, inspect, rm; what is refused is an error for it', { timeout: 240_000 }, () =>
  withRoots(async (roots) => {
    const socket = join(runFolder(), 'litevol.sock')
    const podman = new Podman({ drivers: { litevol: socket } })
    const service = await Service.start(roots, { LITEVOL_PLUGIN_SOCKET: socket })
    try {
      await podman.prepareConsumer()
      await podman.do('volume', 'create', '--driver', 'litevol', '-o', 'mode=0700', 'photos')
      assert.equal(await podman.run('photos:/data', 'stat -c %a /data; echo hello >/data/a; cat /data/a'), '700\nhello')
      assert.equal(await podman.run('photos:/data', 'cat /data/a'), 'hello')
      const [record] = (await service.call('GET', '/volumes')).body as unknown as readonly Record<string, unknown>[]
      assert.partialDeepStrictEqual(record, { name: 'photos', state: 'unmounted', attachments: [] })
      const [inspected] = JSON.parse(await podman.do('volume', 'inspect', 'photos')) as readonly Record<string, unknown>[]
      assert.equal(inspected?.['Driver'], 'litevol')

      const refused = await podman.try('volume', 'create', '--driver', 'litevol', '-o', 'colour=red', 'other')
      assert.notEqual(refused.exitCode, 0)
      assert.match(refused.stderr, /option 'colour': unknown/)

      await podman.keep('one', 'photos:/data')
      await podman.keep('two', 'photos:/data')
      const held = (await service.call('GET', `/volumes/${String(record?.['id'])}`)).body
      assert.equal(held['state'], 'mounted')
      assert.equal((held['attachments'] as readonly unknown[]).length, 1, 'podman counts its containers itself')
      await podman.do('rm', '-f', '-t', '0', 'one')
      assert.equal(await podman.do('exec', 'two', '/bin/cat', '/data/a'), 'hello')
      await podman.do('rm', '-f', '-t', '0', 'two')
      assert.equal((await service.call('GET', `/volumes/${String(record?.['id'])}`)).body['state'], 'unmounted')

      await service.create('made-by-the-api')
      await podman.do('volume', 'create', '--driver', 'litevol', 'made-by-the-api')
      await podman.do('volume', 'rm', 'photos', 'made-by-the-api')
      assert.deepEqual(service.volumeFiles(), [])
      await service.stop()
    } finally {
      await podman.end()
      if (service.child.exitCode === null) service.child.kill('SIGKILL')
    }
  }),
)
