import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, renameSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { shell } from '../mount/support.ts'
import { withFolder } from '../support.ts'
import { Service, litevol, withRoots, withService } from './support.ts'

/** Runs the command to its end; returns exit code and output. */
async function run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<{ code: number | null; output: string }> {
  const child = spawn(litevol, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'], timeout: 60_000 })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (piece) => (output += String(piece)))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, output }
}

test('SIGTERM with files open and exports running: flushed, unmounted, exit 0, everything there at the next start', () =>
  withRoots(async (roots) => {
    const service = await Service.start(roots)
    const ids = await Promise.all(['a', 'b', 'c'].map((name) => service.create(name)))
    const mountpoints = await Promise.all(ids.map((id) => service.mount(id)))
    const holders = mountpoints.map((mountpoint) =>
      spawn('bash', ['-c', 'exec 3>"$1/held"; echo kept >&3; echo ready; sleep 100', 'bash', mountpoint], {
        stdio: ['ignore', 'pipe', 'ignore'],
      }),
    )
    await Promise.all(holders.map((holder) => once(holder.stdout, 'data')))
    await service.stop()
    assert.equal(await shell('findmnt -rn -o TARGET | grep -F "$1" || true', roots.mountRoot), '', 'the mount root is as it was')
    for (const holder of holders) holder.kill('SIGKILL')
    const next = await Service.start(roots)
    for (const id of ids) assert.equal(await shell('cat "$1/held"', await next.mount(id)), 'kept\n')
    await next.stop()
  }))

test('SIGTERM to the service and to its FUSE processes at once, as systemd sends it: all end in order', () =>
  withRoots(async (roots) => {
    const service = await Service.start(roots)
    const ids = await Promise.all(['a', 'b', 'c', 'd'].map((name) => service.create(name)))
    const pids: number[] = []
    for (const id of ids) {
      await shell('head -c 3M /dev/urandom > "$1/data"', await service.mount(id))
      pids.push(Number((await service.call('GET', `/volumes/${id}/mount`)).body['pid']))
    }
    for (const pid of pids) process.kill(pid, 'SIGTERM')
    await service.stop()
    assert.ok(!service.output.some((line) => /"level":(50|60)/.test(line)), service.output.join('\n'))
  }))

test('a service that was killed: the next start clears its mounts, and the volumes have what was acknowledged', () =>
  withRoots(async (roots) => {
    const service = await Service.start(roots)
    const id = await service.create('survivor')
    const mountpoint = await service.mount(id, { persist: true })
    await shell('echo kept > "$1/a"', mountpoint)
    const { pid } = (await service.call('GET', `/volumes/${id}/mount`)).body
    service.child.kill('SIGKILL')
    await once(service.child, 'exit')
    if (existsSync(`/proc/${String(pid)}`)) process.kill(Number(pid), 'SIGKILL') // at once, before it unmounts by itself
    const next = await Service.start(roots)
    const status = await next.call('GET', `/volumes/${id}/mount`)
    assert.equal(status.body['state'], 'mounted', 'persist: true mounts it again')
    assert.equal(await shell('cat "$1/a"', String(status.body['mountpoint'])), 'kept\n')
    await next.stop()
  }))

test('a start that fails when preflight has passed leaves the mount root as it was', () =>
  withRoots(async (roots) => {
    const folder = join(roots.dataRoot, 'volumes', 'x.litevol.new')
    mkdirSync(folder, { recursive: true }) // what tidies up after a crash cannot remove it
    await assert.rejects(Service.start(roots), /x\.litevol\.new/)
    assert.equal(await shell('findmnt -rn -o TARGET | grep -F "$1" || true', roots.mountRoot), '')
    rmdirSync(folder)
  }))

test('the replies for what is wrong: 404, 409, 400, 501, 405, 503', () =>
  withService(async (service) => {
    const id = await service.create('one')
    await service.mount(id)
    const unknown = '/volumes/01890000-0000-7000-8000-000000000000'
    const cases: readonly (readonly [method: string, path: string, body: unknown, status: number, code: string])[] = [
      ['POST', '/volumes', { name: 'one' }, 409, 'name_taken'],
      ['POST', '/volumes', { name: 'two', colour: 'red' }, 400, 'unknown_field'],
      ['POST', '/volumes', { name: 7 }, 400, 'invalid'],
      ['POST', '/volumes', { name: '../x' }, 400, 'invalid'],
      ['POST', '/volumes', { name: 'secret', encrypted: true, pin: '1234' }, 501, 'not_supported'],
      ['GET', unknown, undefined, 404, 'not_found'],
      ['GET', '/nothing', undefined, 404, 'no_route'],
      ['POST', `${unknown}/mount`, {}, 404, 'not_found'],
      ['POST', `/volumes/${id}/mount`, {}, 409, 'mounted'],
      ['POST', `/volumes/${id}/mount`, { driver: 'kernel' }, 400, 'invalid'],
      ['PUT', `/volumes/${id}/mount`, {}, 405, 'method_not_allowed'],
    ]
    for (const [method, path, body, status, code] of cases) {
      const reply = await service.call(method, path, body)
      assert.deepEqual(
        [reply.status, reply.body['code']],
        [status, code],
        `${method} ${path} ${JSON.stringify(body)}: ${JSON.stringify(reply.body)}`,
      )
      assert.match(reply.headers.get('content-type') ?? '', /^application\/problem\+json/)
    }
    assert.equal((await service.call('DELETE', `/volumes/${id}/mount`)).status, 204)
    const again = await service.call('DELETE', `/volumes/${id}/mount`)
    assert.deepEqual([again.status, again.body['code']], [404, 'not_mounted'])
  }))

test('a mount that cannot be ready in time is 503 with everything undone', () =>
  withService(
    async (service) => {
      const id = await service.create('slow')
      // Its FUSE process waits for who has the file, longer than is waited for it.
      const holder = spawn('flock', [join(service.roots.dataRoot, 'volumes', `${id}.litevol`), 'sh', '-c', 'echo held; exec sleep 60'], { detached: true }) // prettier-ignore
      await once(holder.stdout, 'data')
      try {
        const reply = await service.call('POST', `/volumes/${id}/mount`, {})
        assert.deepEqual([reply.status, reply.body['code']], [503, 'not_ready'])
      } finally {
        process.kill(-(holder.pid ?? assert.fail('flock(1) did not start')), 'SIGKILL')
      }
      assert.equal((await service.call('GET', `/volumes/${id}/mount`)).body['mounted'], false)
      assert.equal(await shell('ls "$1"', service.roots.mountRoot), '')
    },
    { LITEVOL_MOUNT_TIMEOUT: '0.1' },
  ))

test('a volume whose file is damaged or missing is named; the others work', () =>
  withRoots(async (roots) => {
    const first = await Service.start(roots)
    const [good, bad, missing] = await Promise.all(['good', 'bad', 'missing'].map((name) => first.create(name)))
    await first.stop()
    const folder = join(roots.dataRoot, 'volumes')
    const fileOf = (id: string | undefined): string => join(folder, `${String(id)}.litevol`)
    renameSync(fileOf(bad), join(roots.mountRoot, 'bad'))
    renameSync(fileOf(missing), join(roots.mountRoot, 'missing'))
    writeFileSync(fileOf(bad), 'this is no volume '.repeat(1000))
    const second = await Service.start(roots)
    for (const id of [bad, missing]) {
      const reply = await second.call('POST', `/volumes/${String(id)}/mount`, {})
      assert.equal(reply.status, 500)
      assert.match(String(reply.body['detail']), new RegExp(String(id)))
    }
    await shell('echo fine > "$1/a"', await second.mount(String(good)))
    await second.stop()
    renameSync(join(roots.mountRoot, 'bad'), fileOf(bad))
    renameSync(join(roots.mountRoot, 'missing'), fileOf(missing))
  }))

test('twelve volumes are mounted and busy at once', () =>
  withService(async (service) => {
    const names = Array.from({ length: 12 }, (_, n) => `many${String(n)}`)
    await Promise.all(
      names.map(async (name) => {
        const mountpoint = await service.mount(await service.create(name))
        await shell(
          'cd "$1"; for i in $(seq 50); do echo "$2 $i" > f$i; done; cat f* | wc -l | grep -qx 50; cp -r . ../copy.$2 2>/dev/null || true',
          mountpoint,
          name,
        )
      }),
    )
    const { body } = await service.call('GET', '/volumes')
    const list = body as unknown as readonly Record<string, unknown>[]
    assert.equal(list.filter(({ mounted }) => mounted === true).length, 12)
    await shell('rm -rf "$1"/copy.*', service.roots.mountRoot)
  }))

test('a second service with a data root of its own leaves the mounts of the first alone', () =>
  withRoots(async (roots, folder) => {
    const first = await Service.start(roots)
    const mountpoint = await first.mount(await first.create('first'))
    const dataRoot = join(folder, 'data2')
    mkdirSync(dataRoot)
    const second = await Service.start({ ...roots, dataRoot })
    assert.equal(await shell('echo alive > "$1/a"; cat "$1/a"', mountpoint), 'alive\n')
    await second.stop()
    await first.stop()
  }))

test('a delete of a mounted volume unmounts it; a second service on the same data root is refused', () =>
  withService(async (service) => {
    const id = await service.create('short')
    const mountpoint = await service.mount(id)
    const second = await run(['serve'], {
      LITEVOL_PORT: '0',
      LITEVOL_DATA_ROOT: service.roots.dataRoot,
      LITEVOL_MOUNT_ROOT: service.roots.mountRoot,
    })
    assert.equal(second.code, 1, second.output)
    assert.equal(await shell('echo alive > "$1/a"; cat "$1/a"', mountpoint), 'alive\n', 'the refused one left the mounts alone')
    assert.equal((await service.call('DELETE', `/volumes/${id}`)).status, 204)
    assert.deepEqual(service.volumeFiles(), [])
    assert.equal(existsSync(mountpoint), false)
  }))

test('litevol mount serves one file until SIGTERM; --create makes it; bad use is one line and exit 2', () =>
  withFolder(async (folder) => {
    const [file, mountpoint] = [join(folder, 'v.sqlite'), join(folder, 'm')]
    mkdirSync(mountpoint)
    for (let round = 0; round < 2; round++) {
      const args = ['mount', ...(round === 0 ? ['--create'] : []), file, mountpoint]
      const child = spawn(litevol, args, { stdio: ['ignore', 'pipe', 'pipe'] })
      await shell('for i in $(seq 300); do mountpoint -q "$1" && exit 0; sleep 0.1; done; exit 1', mountpoint)
      await shell('echo $2 >> "$1/log"; [ "$(wc -l < "$1/log")" = $(($2 + 1)) ]', mountpoint, String(round))
      child.kill('SIGTERM')
      const [code] = (await once(child, 'exit')) as [number | null]
      assert.equal(code, 0)
      assert.equal(await shell('findmnt -rn "$1" || echo none', mountpoint), 'none\n')
      assert.equal(existsSync(`${file}-wal`), false)
    }
    for (const args of [['mount'], ['mount', file], ['serve', '--port', 'x'], ['nonsense'], ['mount', '--nonsense', file, mountpoint]]) {
      const { code, output } = await run(args)
      assert.equal(code, 2, `${args.join(' ')}: ${output}`)
      assert.equal(output.trim().split('\n').length, 1, output)
    }
    assert.match((await run(['--version'])).output, /^\d+\.\d+\.\d+\n$/)
    assert.match((await run(['--help'])).output, /mount[\s\S]*serve|serve[\s\S]*mount/)
  }))
