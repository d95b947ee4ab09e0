/**
 * The volume driver with podman, which has no daemon: each command asks the driver itself, with one id for all containers.
 * Leaves: what the driver does to plugin.test.ts.
 */
import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { execa } from 'execa'
import { listMounts } from '../../src/fuse/mount.ts'
import { Service, withRoots } from '../system/support.ts'
import { runFolder } from './engine.ts'

/** How long a call of podman may take, in ms. */
const callLimitMs = 60_000
const image = 'consumer'

/** podman with settings and storage of its own. */
class Podman {
  readonly #folder: string

  constructor(folder: string, socket: string) {
    this.#folder = folder
    const containers = [
      '[containers]',
      'default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]', // no more than this machine may give
      '[engine]',
      'runtime = "runc"',
      'cgroup_manager = "cgroupfs"',
      'events_logger = "file"',
      '[engine.volume_plugins]',
      `litevol = "${socket}"`,
    ]
    const storage = ['[storage]', 'driver = "vfs"', `graphroot = "${folder}/graph"`, `runroot = "${folder}/run"`]
    writeFileSync(join(folder, 'containers.conf'), `${containers.join('\n')}\n`)
    writeFileSync(join(folder, 'storage.conf'), `${storage.join('\n')}\n`)
  }

  /** Calls it; a failure is an outcome too. */
  async try(...args: readonly string[]): Promise<{ readonly exitCode: number; readonly stdout: string; readonly stderr: string }> {
    const env = { CONTAINERS_CONF: join(this.#folder, 'containers.conf'), CONTAINERS_STORAGE_CONF: join(this.#folder, 'storage.conf') }
    const result = await execa('podman', args, { env, stdin: 'ignore', reject: false, timeout: callLimitMs, killSignal: 'SIGKILL' })
    return { exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr: result.stderr }
  }

  /** Calls it; returns what it printed. Rejects when it fails. */
  async do(...args: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.try(...args)
    assert.equal(exitCode, 0, `podman ${args.join(' ')}\n${stdout}\n${stderr}`)
    return stdout
  }

  run(volume: string, script: string): Promise<string> {
    return this.do('run', '--rm', '--network', 'none', '-v', volume, image, '/bin/sh', '-c', script)
  }

  /** Makes the image, of busybox alone. */
  async prepare(): Promise<void> {
    const files = join(this.#folder, 'files')
    mkdirSync(join(files, 'bin'), { recursive: true })
    copyFileSync('/bin/busybox', join(files, 'bin/busybox'))
    for (const name of ['sh', 'cat', 'stat', 'sleep', 'echo']) symlinkSync('busybox', join(files, 'bin', name))
    const tarball = `${files}.tar`
    await execa('tar', ['-C', files, '-cf', tarball, '.'])
    await this.do('import', tarball, image)
  }

  /** Removes all containers, and what its storage has mounted. */
  async end(): Promise<void> {
    await this.try('rm', '-f', '-t', '0', '--all')
    const below = listMounts().filter(({ mountpoint }) => mountpoint.startsWith(`${this.#folder}/`))
    for (const { mountpoint } of below.reverse()) await execa('umount', ['-l', '--', mountpoint], { reject: false })
  }
}

test('podman volume create --driver, run, inspect, rm; what is refused is an error for it', { timeout: 240_000 }, () =>
  withRoots(async (roots) => {
    const folder = mkdtempSync(join(runFolder(), 'podman-'))
    const socket = join(folder, 'litevol.sock')
    const podman = new Podman(folder, socket)
    const service = await Service.start(roots, { LITEVOL_PLUGIN_SOCKET: socket })
    try {
      await podman.prepare()
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

      const keep = (name: string): Promise<string> =>
        podman.do('run', '-d', '--name', name, '--network', 'none', '-v', 'photos:/data', image, '/bin/sleep', '3600')
      await keep('one')
      await keep('two')
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
      rmSync(folder, { recursive: true, force: true })
    }
  }),
)
