/** The socket of the volume plugin: who may connect, and whose it is. */
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { Service, litevol, withRoots } from '../system/support.ts'
import { Engine, pluginIn, withEngine, withPlugin } from './support.ts'

const limit = { timeout: 120_000 }

/** Runs `litevol serve`, which must fail; returns its code and what it says. */
function serveInVain(environment: Readonly<Record<string, string>>) {
  const env = { ...process.env, LITEVOL_PORT: '0', LITEVOL_LOG_LEVEL: 'silent', ...environment }
  const { status, stdout, stderr } = spawnSync(litevol, ['serve'], { env, encoding: 'utf8', timeout: 60_000 })
  return { status, output: stdout + stderr }
}

test('only root may connect; the socket is gone after a stop, and nothing else of it is left', limit, () =>
  withEngine(async ({ engine: { socket }, start }) => {
    const service = await start()
    const { mode, uid } = statSync(socket)
    assert.deepEqual([mode & 0o777, uid], [0o600, 0])
    assert.deepEqual(readdirSync(dirname(socket)), ['litevol.sock'])
    assert.equal(statSync(dirname(socket)).mode & 0o777, 0o700, 'as dockerd makes /run/docker, which may be made by us')
    const script = `require('node:net').connect(${JSON.stringify(socket)}).on('connect', () => process.exit(3)).on('error', (e) => process.stdout.write(e.code))`
    spawnSync('chmod', ['o+x', dirname(socket), join(socket, '../..')])
    const stranger = spawnSync(process.execPath, ['-e', script], { uid: 65_534, gid: 65_534, encoding: 'utf8' })
    assert.deepEqual([stranger.status, stranger.stdout], [0, 'EACCES'])
    await service.stop()
    assert.deepEqual(readdirSync(dirname(socket)), [])
  }),
)

test('with a socket too the log is JSON, line by line', limit, () =>
  withPlugin(async (engine, service) => {
    await engine.refuse('Remove')
    await service.stop()
    for (const line of service.output) assert.doesNotThrow(() => JSON.parse(line), line)
    assert.ok(service.output.some((line) => line.includes('a call of the volume plugin failed')))
  }),
)

test('the socket of a service that was killed is replaced', limit, () =>
  withEngine(async ({ engine, start }) => {
    const first = await start()
    first.child.kill('SIGKILL')
    await once(first.child, 'exit')
    assert.ok(existsSync(engine.socket))
    await start()
    await engine.do('List')
  }),
)

test('the socket of a service that lives is left to it, and a file that is no socket alone', limit, () =>
  withRoots(async (roots, folder) => {
    const environment = pluginIn(folder)
    const first = await Service.start(roots, environment)
    try {
      const dataRoot = join(folder, 'data2')
      mkdirSync(dataRoot)
      const roots2 = { LITEVOL_DATA_ROOT: dataRoot, LITEVOL_MOUNT_ROOT: roots.mountRoot }
      const second = serveInVain({ ...environment, ...roots2 })
      assert.equal(second.status, 1, second.output)
      assert.match(second.output, /litevol\.sock: another service listens on it/)
      await new Engine(environment.LITEVOL_PLUGIN_SOCKET).do('List')
      const file = join(folder, 'precious')
      writeFileSync(file, 'x')
      const third = serveInVain({ ...roots2, LITEVOL_PLUGIN_SOCKET: file })
      assert.equal(third.status, 1, third.output)
      assert.match(third.output, /something else of that name/)
      assert.ok(existsSync(file))
      const same = serveInVain({ ...roots2, LITEVOL_PLUGIN_SOCKET: '/x/y.sock', LITEVOL_SOCKET: '/x/y.sock' })
      assert.equal(same.status, 2, same.output)
    } finally {
      await first.stop()
    }
  }),
)

test('a stop does not wait for an engine that keeps its connection open', limit, () =>
  withEngine(async ({ engine, start }) => {
    const service = await start()
    const script = `require('node:net').connect(${JSON.stringify(engine.socket)}).on('connect', () => console.log('open')).on('error', () => {})`
    const idle = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'ignore'] })
    await once(idle.stdout, 'data')
    await service.stop()
    if (idle.exitCode === null) await once(idle, 'exit')
  }),
)

test('a stop that cannot take the socket away ends all volumes nevertheless, and says so', limit, () =>
  withRoots(async (roots, folder) => {
    const environment = pluginIn(folder)
    const plugins = dirname(environment.LITEVOL_PLUGIN_SOCKET)
    mkdirSync(plugins)
    execFileSync('mount', ['-t', 'tmpfs', 'litevol-test', plugins]) // withRoots unmounts it
    const service = await Service.start(roots, environment)
    await service.mount(await service.create('v'), { persist: true })
    execFileSync('mount', ['-o', 'remount,ro', plugins])
    await service.stop()
    assert.ok(
      service.output.some((line) => /"level":40.*Read-only file system.*the socket of the volume driver stays/.test(line)),
      service.output.join('\n'),
    )
  }),
)
