/**
 * The volume driver as Docker's own plugin (scripts/docker-plugin.sh), and in a container beside others.
 * Leaves: what the driver does to plugin.test.ts.
 */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { listMounts } from '../../src/fuse/mount.ts'
import { checkVolume } from '../../src/engine/index.ts'
import { root } from '../project/project.ts'
import { until } from '../support.ts'
import { Engine, runFolder } from './engine.ts'
import { consumerImage, litevolImage } from './images.ts'

/** How long dockerd, the plugin or a container may take over something, in ms. */
const limitMs = 60_000
const plugin = 'litevol'
const api = 'http://127.0.0.1:8081'
const token = 'plugin-token'
const headers = { authorization: `Bearer ${token}` }

let engine: Engine
before(async () => {
  engine = await Engine.start({ network: 'none' })
})
after(() => engine.stop())

/** Runs a script in a new container that has a volume; returns what it printed. */
function run(volume: string, script: string): Promise<string> {
  return engine.docker(['run', '--rm', '--network', 'none', '-v', volume, consumerImage, 'sh', '-c', script])
}

const inside = (name: string, script: string): Promise<string> => engine.docker(['exec', name, 'timeout', '20', 'sh', '-c', script])

async function statusOf(volume: string): Promise<Readonly<Record<string, unknown>>> {
  return JSON.parse(await engine.docker(['volume', 'inspect', '--format', '{{json .Status}}', volume])) as Record<string, unknown>
}

/** Runs `work` with the plugin enabled and the folder of its volume files; removes it afterwards. */
async function withPlugin(work: (data: string) => Promise<void>): Promise<void> {
  const data = join(runFolder(), 'plugin-data')
  mkdirSync(data)
  writeFileSync(join(data, 'token'), token, { mode: 0o600 })
  try {
    const made = await engine.run('sh', [join(root, 'scripts/docker-plugin.sh'), litevolImage, plugin])
    assert.equal(made.exitCode, 0, made.stderr)
    const settings = ['LITEVOL_PORT=8081', 'LITEVOL_LOG_LEVEL=debug', 'LITEVOL_TOKEN_FILE=/var/lib/litevol/token']
    await engine.docker(['plugin', 'set', plugin, `data.source=${data}`, ...settings])
    await engine.docker(['plugin', 'enable', plugin])
    await work(data)
    await engine.docker(['plugin', 'disable', plugin])
    const volumes = join(data, 'volumes')
    for (const name of readdirSync(volumes)) assert.deepEqual(checkVolume(join(volumes, name), { deep: true }), [])
  } finally {
    await engine.tryDocker(['plugin', 'rm', '-f', plugin])
    rmSync(data, { recursive: true, force: true })
  }
  const left = listMounts().filter(({ fstype, source }) => fstype === 'fuse.litevol' && source.startsWith('/var/lib/litevol/'))
  assert.deepEqual(left, [])
}

test('the managed plugin: volumes, the API on the host, dockerd killed, the plugin disabled and enabled', { timeout: 240_000 }, () =>
  withPlugin(async (data) => {
    await engine.docker(['volume', 'create', '-d', plugin, '-o', 'mode=0700', 'photos'])
    assert.equal(await run('photos:/data', 'stat -c %a /data; echo hello >/data/a'), '700')
    assert.equal(await run('photos:/data', 'cat /data/a'), 'hello')
    const { id, state } = await statusOf('photos')
    assert.equal(state, 'unmounted')
    assert.deepEqual(readdirSync(join(data, 'volumes')), [`${String(id)}.litevol`])
    const health = (await (await fetch(`${api}/health`, { headers })).json()) as { checks: { name: string; verdict: string }[] }
    assert.equal(health.checks.find(({ name }) => name === 'dirty limit')?.verdict, 'ok')
    assert.equal((await fetch(`${api}/volumes/${String(id)}/export`)).status, 401)
    const exported = await fetch(`${api}/volumes/${String(id)}/export`, { headers })
    assert.equal(exported.status, 200)
    assert.match(Buffer.from(await exported.arrayBuffer()).toString('latin1', 0, 15), /^SQLite format 3/)

    const flags = ['--network', 'none', '-v', 'photos:/data', '--restart', 'always']
    await engine.docker(['run', '-d', '--init', '--name', 'phoenix', ...flags, consumerImage, 'sleep', '3600'])
    await inside('phoenix', 'echo before >/data/b')
    const { attachments } = await statusOf('photos')
    await engine.killDaemon()
    await engine.startDaemon()
    await until('the container is back', async () => (await engine.inspect('phoenix')).Running, limitMs)
    assert.equal(await inside('phoenix', 'cat /data/a /data/b; echo after >/data/c'), 'hello\nbefore')
    assert.deepEqual((await statusOf('photos'))['attachments'], attachments)

    assert.equal((await engine.tryDocker(['plugin', 'disable', plugin])).exitCode, 1, 'it is in use')
    await engine.docker(['rm', '-f', 'phoenix'])
    assert.deepEqual((await statusOf('photos'))['attachments'], [])
    await engine.docker(['plugin', 'disable', '-f', plugin])
    await engine.docker(['plugin', 'enable', plugin])
    assert.equal(await run('photos:/data', 'cat /data/a /data/b /data/c'), 'hello\nbefore\nafter')
    await engine.docker(['volume', 'rm', 'photos'])
    assert.deepEqual(readdirSync(join(data, 'volumes')), [])
    assert.match(readFileSync(join(data, 'volumes.jsonl'), 'utf8'), /delete volume photos/)
  }),
)

test(
  'in a container: the socket is found by the engine that runs it, and the paths are those of the host',
  { timeout: 240_000 },
  async () => {
    const sockets = '/run/docker/plugins'
    const hostMountRoot = '/mnt/litevol'
    for (const folder of [sockets, hostMountRoot]) mkdirSync(folder, { recursive: true })
    const binds = ['-v', `${sockets}:${sockets}`, '-v', `${hostMountRoot}:/mnt:rshared`, '-v', 'litevol-data:/var/lib/litevol']
    const variables = ['-e', `LITEVOL_PLUGIN_SOCKET=${sockets}/litevol.sock`, '-e', `LITEVOL_HOST_MOUNT_ROOT=${hostMountRoot}`]
    const service = [
      '--cap-add',
      'SYS_ADMIN',
      '--security-opt',
      'apparmor=unconfined',
      '--device',
      '/dev/fuse',
      '--network',
      'none',
      '-e',
      'LITEVOL_HOST=127.0.0.1',
      ...binds,
      ...variables,
    ]
    await engine.docker(['run', '-d', '--name', 'litevol', ...service, litevolImage])
    await until(
      'the driver answers',
      async () => (await engine.tryDocker(['volume', 'create', '-d', 'litevol', 'books'])).exitCode === 0,
      limitMs,
    )
    assert.equal(await run('books:/data', 'echo one >/data/a; cat /data/a'), 'one')
    await engine.docker([
      'run',
      '-d',
      '--init',
      '--name',
      'holder',
      '--network',
      'none',
      '-v',
      'books:/data',
      consumerImage,
      'sleep',
      '3600',
    ])
    const { id, state } = await statusOf('books')
    assert.equal(state, 'mounted')
    assert.equal(await engine.docker(['volume', 'inspect', '--format', '{{.Mountpoint}}', 'books']), `${hostMountRoot}/${String(id)}`)
    assert.equal(await inside('holder', 'cat /data/a'), 'one')
    await engine.docker(['rm', '-f', 'holder'])
    await engine.docker(['volume', 'rm', 'books'])
    await engine.docker(['stop', 'litevol'])
    assert.equal((await engine.inspect('litevol')).ExitCode, 0)
    await engine.docker(['rm', 'litevol'])
    await engine.docker(['volume', 'rm', 'litevol-data'])
  },
)
