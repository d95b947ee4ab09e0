/**
 * The volume driver with the real Docker Engine: litevol as a service of the host, dockerd finds its socket by itself.
 * Leaves: the calls one by one to test/plugin, the driver in containers to managed-plugin.test.ts.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Service, withRoots, type Roots } from '../system/support.ts'
import { until } from '../support.ts'
import { Engine } from './engine.ts'
import { consumerImage } from './images.ts'

const socket = '/run/docker/plugins/litevol.sock'
/** How long dockerd and a container may take over something, in ms. */
const limitMs = 60_000

let engine: Engine
before(async () => {
  engine = await Engine.start({ network: 'none' })
})
after(() => engine.stop())

/** What `docker volume inspect` says. */
interface Inspected {
  readonly Name: string
  readonly Driver: string
  readonly Mountpoint: string
  readonly CreatedAt: string
  readonly Options: Readonly<Record<string, string>> | null
  readonly Scope: string
  readonly Status: Readonly<Record<string, unknown>>
}

async function inspect(name: string): Promise<Inspected> {
  const [volume] = JSON.parse(await engine.docker(['volume', 'inspect', name])) as readonly Inspected[]
  assert.ok(volume)
  return volume
}

async function attachments(name: string): Promise<string[]> {
  return ((await inspect(name)).Status['attachments'] as readonly { id: string }[]).map(({ id }) => id)
}

/** Runs a script in a new container that has volumes; returns what it printed. */
function run(volumes: readonly string[], script: string): Promise<string> {
  const binds = volumes.flatMap((volume) => ['-v', volume])
  return engine.docker(['run', '--rm', '--network', 'none', ...binds, consumerImage, 'sh', '-c', script])
}

/** Starts a container that stays. */
function keep(name: string, volume: string, ...flags: readonly string[]): Promise<string> {
  return engine.docker(['run', '-d', '--init', '--network', 'none', '--name', name, '-v', volume, ...flags, consumerImage, 'sleep', '3600'])
}

const inside = (name: string, script: string): Promise<string> => engine.docker(['exec', name, 'timeout', '20', 'sh', '-c', script])

/** Runs `work` with services of one data root. Afterwards no container and no volume is left of it. */
async function withDriver(
  work: (service: Service, start: () => Promise<Service>, roots: Roots, folder: string) => Promise<void>,
): Promise<void> {
  await withRoots(async (roots, folder) => {
    let service: Service | undefined
    const start = async (): Promise<Service> => (service = await Service.start(roots, { LITEVOL_PLUGIN_SOCKET: socket }))
    try {
      await work(await start(), start, roots, folder)
      await engine.removeContainers()
      const volumes = await engine.docker(['volume', 'ls', '-q', '-f', 'driver=litevol'])
      if (volumes !== '') await engine.docker(['volume', 'rm', ...volumes.split('\n')])
      await service?.stop()
    } finally {
      await engine.removeContainers()
      if (service?.child.exitCode === null) service.child.kill('SIGKILL')
      rmSync(socket, { force: true }) // dockerd would ask a dead driver for 15 s at each call about a volume
    }
  })
}

test('docker volume create, run, inspect, rm', () =>
  withDriver(async (service) => {
    assert.equal(await engine.docker(['volume', 'create', '-d', 'litevol', '-o', 'uid=1000', '-o', 'mode=0750', 'photos']), 'photos')
    assert.equal(await run(['photos:/data'], 'stat -c "%u %g %a" /data; echo hello >/data/a; ls /data'), '1000 0 750\na')
    assert.equal(await run(['photos:/data:ro'], 'cat /data/a; echo no 2>/dev/null >/data/b || echo refused'), 'hello\nrefused')
    const volume = await inspect('photos')
    const [record] = (await service.call('GET', '/volumes')).body as unknown as readonly Record<string, unknown>[]
    const created = String(record?.['created_at']).replace(/\.\d+Z$/, 'Z') // Docker shows whole seconds
    assert.deepEqual([volume.Driver, volume.Scope, volume.CreatedAt, volume.Mountpoint], ['litevol', 'local', created, ''])
    assert.partialDeepStrictEqual(volume.Status, { id: record?.['id'], state: 'unmounted', attachments: [] })
    assert.ok(Number(volume.Status['size_bytes']) > 0)
    const { id } = record as { id: string }
    assert.deepEqual((await service.call('GET', `/volumes/${id}/mount`)).body['mounted'], false, 'the last container has gone')
    await keep('holder', 'photos:/data')
    assert.equal((await inspect('photos')).Mountpoint, join(service.roots.mountRoot, id))
    assert.equal((await attachments('photos')).length, 1)
    const refused = await engine.tryDocker(['volume', 'rm', 'photos'])
    assert.equal(refused.exitCode, 1)
    assert.equal((await service.call('DELETE', `/volumes/${id}`)).status, 409)
    await engine.docker(['rm', '-f', 'holder'])
    await engine.docker(['volume', 'rm', 'photos'])
    assert.deepEqual(service.volumeFiles(), [])
  }))

test('an unknown option, and a wrong one, are refused by name; nothing is made', () =>
  withDriver(async (service) => {
    const wrong = await engine.tryDocker(['volume', 'create', '-d', 'litevol', '-o', 'colour=red', 'x'])
    assert.equal(wrong.exitCode, 1)
    assert.match(wrong.stderr, /option 'colour': unknown; there are uid, gid, mode/)
    assert.match((await engine.tryDocker(['volume', 'create', '-d', 'litevol', '-o', 'uid=me', 'x'])).stderr, /option 'uid'/)
    assert.match((await engine.tryDocker(['volume', 'create', '-d', 'litevol', '-o', 'encrypted=true', 'x'])).stderr, /not supported/)
    assert.deepEqual(service.volumeFiles(), [])
  }))

test('containers share a volume, also one that the API made; it stays mounted until the last of them goes', () =>
  withDriver(async (service) => {
    const id = await service.create('shared')
    await keep('one', 'shared:/data')
    await keep('two', 'shared:/data')
    await inside('one', 'echo from one >/data/a')
    assert.equal(await inside('two', 'cat /data/a'), 'from one')
    assert.equal((await attachments('shared')).length, 2, 'one id a container')
    await engine.docker(['rm', '-f', 'one'])
    assert.equal(await inside('two', 'cat /data/a'), 'from one')
    const before = await attachments('shared')
    await engine.docker(['restart', '-t', '1', 'two'])
    const now = await attachments('shared')
    assert.equal(now.length, 1)
    assert.notDeepEqual(now, before, 'a restart detaches and attaches')
    assert.equal(await inside('two', 'cat /data/a'), 'from one')
    await engine.docker(['stop', '-t', '1', 'two'])
    assert.equal((await service.call('GET', `/volumes/${id}`)).body['state'], 'unmounted')
  }))

test('dockerd is killed with a container that comes back: the same id comes again, and nobody has told us of its end', () =>
  withDriver(async () => {
    await keep('phoenix', 'books:/data', '--volume-driver', 'litevol', '--restart', 'always')
    await inside('phoenix', 'echo before >/data/a')
    const first = await attachments('books')
    await engine.killDaemon()
    await engine.startDaemon()
    await until('the container is back', async () => (await engine.inspect('phoenix')).Running, limitMs)
    assert.deepEqual(await attachments('books'), first)
    assert.equal(await inside('phoenix', 'cat /data/a; echo after >>/data/a'), 'before')
    await engine.docker(['rm', '-f', 'phoenix'])
    assert.deepEqual([await attachments('books'), (await inspect('books')).Status['state']], [[], 'unmounted'])
    assert.equal(await run(['books:/data'], 'cat /data/a'), 'before\nafter')
  }))

test('dockerd is killed with a container that does not come back: its id stays until it is started once more, or forgotten by force', () =>
  withDriver(async (service) => {
    for (const name of ['started', 'removed']) await keep(name, `${name}:/data`, '--volume-driver', 'litevol')
    await engine.killDaemon()
    await engine.startDaemon()
    const isDead = async (name: string): Promise<boolean> => !(await engine.inspect(name)).Running
    await until('the containers are known to be dead', async () => (await isDead('started')) && (await isDead('removed')), limitMs)
    const [id] = await attachments('started')
    await engine.docker(['start', 'started'])
    assert.deepEqual(await attachments('started'), [id])
    await engine.docker(['rm', '-f', 'started', 'removed'])
    await engine.docker(['volume', 'rm', 'started'])
    const refused = await engine.tryDocker(['volume', 'rm', 'removed'])
    assert.equal(refused.exitCode, 1)
    const [left = ''] = await attachments('removed')
    assert.ok(refused.stderr.includes(left), refused.stderr)
    const cure = /DELETE (\S+\?force=true)/.exec(refused.stderr)?.[1] ?? ''
    assert.equal((await service.call('DELETE', cure)).status, 204)
    await engine.docker(['volume', 'rm', 'removed'])
    assert.deepEqual(service.volumeFiles(), [])
  }))

test('the service is stopped and started: a container sees its volume again when it is restarted', () =>
  withDriver(async (first, start) => {
    await keep('holder', 'books:/data', '--volume-driver', 'litevol')
    await inside('holder', 'echo kept >/data/a')
    await first.stop()
    await start()
    assert.equal((await inspect('books')).Status['state'], 'mounted')
    assert.equal((await attachments('books')).length, 1)
    assert.equal((await engine.tryDocker(['exec', 'holder', 'cat', '/data/a'])).exitCode, 1, 'a bind of what was unmounted')
    await engine.docker(['restart', '-t', '1', 'holder'])
    assert.equal(await inside('holder', 'cat /data/a'), 'kept')
    assert.equal((await attachments('books')).length, 1)
  }))

test('the service is killed: the container goes on, and a call of dockerd waits for the next one', () =>
  withDriver(async (first, start) => {
    await keep('holder', 'books:/data', '--volume-driver', 'litevol')
    first.child.kill('SIGKILL')
    await once(first.child, 'exit')
    await inside('holder', 'echo meanwhile >/data/a')
    const starting = run(['books:/data'], 'cat /data/a')
    await start()
    assert.equal(await starting, 'meanwhile')
    assert.equal(await inside('holder', 'cat /data/a'), 'meanwhile')
    await engine.docker(['rm', '-f', 'holder'])
    assert.equal((await inspect('books')).Status['state'], 'unmounted')
  }))

test('a compose file names the driver', () =>
  withDriver(async (service, _, __, folder) => {
    const project = join(folder, 'project')
    mkdirSync(project)
    const common = `image: ${consumerImage}\n    network_mode: none\n    volumes: [data:/data]`
    const compose = `version: '3.8'
services:
  writer:
    ${common}
    command: sh -c 'echo composed > /data/a'
  reader:
    ${common}
    command: sh -c 'until cat /data/a; do sleep 0.1; done'
volumes:
  data:
    driver: litevol
    driver_opts:
      mode: '0700'
`
    writeFileSync(join(project, 'docker-compose.yml'), compose)
    const up = await engine.run('docker-compose', ['up', '--no-color'], { cwd: project })
    assert.equal(up.exitCode, 0, up.stderr)
    // Not what `up` has shown: it may attach to a container that has ended already.
    const hasSaid = async (): Promise<boolean> => (await engine.logs('project_reader_1')).includes('composed')
    await until('the reader has said it', hasSaid, limitMs)
    const volume = await inspect('project_data')
    assert.deepEqual([volume.Driver, volume.Options, volume.Status['attachments']], ['litevol', { mode: '0700' }, []])
    const down = await engine.run('docker-compose', ['down', '-v'], { cwd: project })
    assert.equal(down.exitCode, 0, down.stderr)
    assert.deepEqual(service.volumeFiles(), [])
  }))
