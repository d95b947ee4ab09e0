/** compose.yaml as it stands with podman-compose: the same service, the same guard, the same mounts. */
import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { readManifest, root } from '../project/project.ts'
import { until } from '../support.ts'
import { Engine } from './engine.ts'
import { litevolImage } from './images.ts'
import { assertNothingMounted, hostMountRoot, hostMounts, readyLimitMs } from './manager.ts'
import { Podman } from './podman.ts'

const composeLimitMs = 120_000
const address = 'http://127.0.0.1:8080'

let podman: Podman
before(async () => {
  podman = new Podman()
  const engine = await Engine.start({ network: 'none' })
  try {
    // Under the name that compose.yaml gives it: it is not built a second time.
    await podman.load(engine, litevolImage, `localhost/litevol:${readManifest('package.json').version}`)
  } finally {
    await engine.stop()
  }
  await podman.prepareConsumer()
})
after(() => podman.end())

test('podman-compose starts compose.yaml as it stands, serves who has the token, and stops in order', { timeout: 240_000 }, async () => {
  const clone = join(podman.folder, 'litevol')
  mkdirSync(clone)
  mkdirSync(hostMountRoot, { recursive: true })
  copyFileSync(join(root, 'compose.yaml'), join(clone, 'compose.yaml'))
  const works = async (script: string): Promise<string> => {
    const { exitCode, stdout, stderr } = await podman.call('bash', ['-c', `set -e; ${script}`], { cwd: clone, timeoutMs: composeLimitMs })
    assert.equal(exitCode, 0, `${script}\n${stdout}\n${stderr}`)
    return stdout
  }
  const call = async (method: string, path: string, body?: unknown): Promise<{ status: number; body: Record<string, unknown> }> => {
    const authorization = `Bearer ${readFileSync(join(clone, 'litevol-token'), 'utf8').trim()}`
    const json = body === undefined ? {} : { body: JSON.stringify(body), headers: { authorization, 'content-type': 'application/json' } }
    const response = await fetch(`${address}${path}`, { method, headers: { authorization }, ...json })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  await works('(umask 077 && head -c 32 /dev/urandom | base64 > litevol-token); podman-compose up -d')
  const container = 'litevol_litevol_1'
  await until(
    'it answers',
    async () => {
      const running = await podman.do('inspect', '--format', '{{.State.Running}}', container)
      assert.equal(running, 'true', (await podman.try('logs', container)).stderr)
      return (await call('GET', '/health').then(({ status }) => status, () => 0)) === 200 // prettier-ignore
    },
    readyLimitMs,
  )
  assert.equal((await fetch(`${address}/volumes`)).status, 401)
  assert.equal(await podman.do('port', container), '8080/tcp -> 127.0.0.1:8080')
  const ask = 'fetch(process.argv[1]).then(async (r) => console.log(r.status, await r.text()), (e) => console.log(e.cause.code))'
  const network = (
    await podman.do('inspect', '--format', '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}', container)
  ).trim()
  const ip = await podman.do('inspect', '--format', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', container)
  await podman.do('run', '-d', '--name', 'beside', '--network', network, '--entrypoint', 'sleep', litevolImage, '3600')
  assert.match(await podman.do('exec', 'beside', 'node', '-e', ask, `http://${ip}:8080/volumes`), /^401 /)
  await podman.do('rm', '-f', '-t', '0', 'beside')

  const id = String((await call('POST', '/volumes', { name: 'photos' })).body['id'])
  await podman.keep('early', `${hostMountRoot}:/volumes:rslave`)
  const mounted = await call('POST', `/volumes/${id}/mount`, { persist: true })
  assert.equal(mounted.body['host_path'], join(hostMountRoot, id))
  assert.equal(await podman.run(`${hostMountRoot}/${id}:/data`, 'echo x >/data/x; cat /data/x'), 'x')
  assert.equal(await podman.do('exec', 'early', '/bin/cat', `/volumes/${id}/x`), 'x')
  await works('podman-compose stop')
  assert.equal(await podman.do('inspect', '--format', '{{.State.ExitCode}}', container), '0')
  assertNothingMounted()
  await works('podman-compose start')
  await until('it answers', async () => (await call('GET', '/health').then(({ status }) => status, () => 0)) === 200, readyLimitMs) // prettier-ignore
  assert.deepEqual(hostMounts(), [join(hostMountRoot, id)])
  assert.equal(await podman.do('exec', 'early', '/bin/cat', `/volumes/${id}/x`), 'x')
  await works('podman-compose down -v')
  assertNothingMounted()
})
