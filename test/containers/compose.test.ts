/** compose.yaml and the commands of README and docs/containers.md, as they stand there: the service starts, and only who has the token is served. */
import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, test } from 'node:test'
import { readProject, root } from '../project/project.ts'
import { until } from '../support.ts'
import { Engine, runFolder, type Outcome } from './engine.ts'
import { consumerImage, litevolImage } from './images.ts'
import { assertNothingMounted, hostMountRoot, hostMounts, readyLimitMs } from './manager.ts'

/** `docker compose` is a plugin of later clients; Debian's is a program. */
const shim =
  'docker() { if [ "$1" = compose ]; then shift; command docker-compose --ansi never "$@"; else command docker "$@"; fi; }; set -e\n'
const composeLimitMs = 120_000

let engine: Engine
/** A copy of what a clone has and the builder is sent: the commands of README write a token beside it. */
let clone: string
before(async () => {
  engine = await Engine.start()
  clone = join(mkdtempSync(join(runFolder(), 'clone-')), 'litevol')
  mkdirSync(clone)
  const sent = [...readProject('.dockerignore').matchAll(/^!(.+)$/gm)].map(([, name = '']) => name)
  for (const name of [...sent, '.dockerignore', 'Dockerfile', 'compose.yaml'])
    cpSync(join(root, name), join(clone, name), { recursive: true })
  await engine.docker(['tag', litevolImage, 'litevol'])
  await engine.docker(['tag', consumerImage, 'busybox'])
})
after(async () => {
  await engine.tryDocker(['image', 'rm', 'litevol', 'busybox'])
  await engine.stop()
})
afterEach(async () => {
  await engine.removeContainers()
  await engine.docker(['network', 'prune', '-f'])
  await engine.docker(['volume', 'prune', '-f'])
})

/** The first block of commands of a document that has this line. */
function block(document: string, line: string, language = ''): string {
  const blocks = [...readProject(document).matchAll(new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``, 'g'))].map(([, text = '']) => text)
  const found = blocks.find((text) => text.includes(line))
  assert.ok(found, `${document}: has no block with ${line}`)
  return found
}

/** Runs commands in the clone. */
async function sh(script: string): Promise<Outcome> {
  return engine.run('bash', ['-c', shim + script], { cwd: clone, timeoutMs: composeLimitMs })
}

async function works(script: string): Promise<string> {
  const { exitCode, stdout, stderr } = await sh(script)
  assert.equal(exitCode, 0, `${script}\n${stdout}\n${stderr}`)
  return stdout
}

const token = (): string => readFileSync(join(clone, 'litevol-token'), 'utf8').trim()

async function call(method: string, path: string, body?: unknown): Promise<{ status: number; body: Record<string, unknown> }> {
  const headers = { authorization: `Bearer ${token()}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }
  const sent = body === undefined ? {} : { body: JSON.stringify(body) }
  const response = await fetch(`http://127.0.0.1:8080${path}`, { method, headers, ...sent, signal: AbortSignal.timeout(readyLimitMs) })
  const text = await response.text()
  return { status: response.status, body: (text === '' ? {} : JSON.parse(text)) as Record<string, unknown> }
}

/** What a container of `network` gets from `url`: status and body, or why not; it has no token. */
async function ask(network: string, url: string): Promise<string> {
  const script = 'fetch(process.argv[1]).then(async (r) => console.log(r.status, await r.text()), (e) => console.log(e.cause.code))'
  return engine.docker(['run', '--rm', '--network', network, '--entrypoint', 'node', litevolImage, '-e', script, url])
}

/** Only who has the token is served, and only this host reaches the published port. */
async function assertGuarded(container: string, network: string): Promise<void> {
  assert.equal(await engine.docker(['port', container]), '8080/tcp -> 127.0.0.1:8080')
  const describe = (format: string): Promise<string> => engine.docker(['inspect', '--format', format, container])
  const [address, gateway] = (await describe(`{{with index .NetworkSettings.Networks "${network}"}}{{.IPAddress}} {{.Gateway}}{{end}}`)).split(' ') // prettier-ignore
  assert.match(await ask(network, `http://${String(address)}:8080/volumes`), /^401 .*unauthorized/)
  assert.match(await ask(network, `http://${String(address)}:8080/health`), /^200 \{"status":"ok"\}$/)
  assert.match(await ask(network, `http://${String(gateway)}:8080/health`), /^ECONNREFUSED$/)
  assert.equal((await fetch('http://127.0.0.1:8080/volumes')).status, 401)
  assert.equal((await call('GET', '/volumes')).status, 200)
}

/** A volume is made, mounted, and written by a container that binds it as README says. */
async function assertServes(): Promise<string> {
  const { body } = await call('POST', '/volumes', { name: 'photos' })
  const id = String(body['id'])
  const mounted = await call('POST', `/volumes/${id}/mount`, { persist: true })
  assert.equal(mounted.body['host_path'], join(hostMountRoot, id))
  const used = ['run', '--rm', '-v', `${String(mounted.body['host_path'])}:/data`, consumerImage, 'sh', '-c', 'echo x >/data/x; cat /data/x'] // prettier-ignore
  assert.equal(await engine.docker(used), 'x')
  return id
}

test('compose.yaml starts by the commands of README, serves who has the token, and stops in order', async () => {
  const commands = block('README.md', 'docker compose up -d --build')
  assert.match(await works(commands), /"status":"(ok|warn)"/)
  assert.equal(statSync(join(clone, 'litevol-token')).mode & 0o777, 0o600)
  await assertGuarded('litevol_litevol_1', 'litevol_default')
  const checks = (await call('GET', '/health')).body['checks'] as { name: string; verdict: string }[]
  assert.deepEqual(checks.filter(({ verdict }) => verdict !== 'ok'), []) // prettier-ignore
  const id = await assertServes()
  await works('docker compose stop')
  assert.equal((await engine.inspect('litevol_litevol_1')).ExitCode, 0)
  assertNothingMounted()
  await works('docker compose down && docker compose up -d')
  await until('it answers', async () => (await call('GET', '/health').then(({ status }) => status, () => 0)) === 200, readyLimitMs) // prettier-ignore
  assert.deepEqual(hostMounts(), [join(hostMountRoot, id)])
  await works('docker compose down -v')
  assertNothingMounted()
})

test('a service beside it that binds the mount root as docs/containers.md says uses volumes, also after a restart of litevol', async () => {
  const application = block('docs/containers.md', ':rslave', 'yaml')
  await engine.run('tee', [join(clone, 'app.yaml')], { input: application })
  await works('head -c 32 /dev/urandom | base64 >litevol-token; docker compose -f compose.yaml -f app.yaml up -d')
  const answers = async (): Promise<boolean> => (await call('GET', '/health').then(({ status }) => status, () => 0)) === 200 // prettier-ignore
  await until('it answers', answers, readyLimitMs)
  const id = await assertServes()
  assert.equal(await works(`docker compose -f compose.yaml -f app.yaml exec -T app cat /volumes/${id}/x`), 'x')
  await works('docker compose restart litevol')
  await until('it answers', answers, readyLimitMs)
  assert.equal(await works(`docker compose -f compose.yaml -f app.yaml exec -T app cat /volumes/${id}/x`), 'x')
  await works('docker compose -f compose.yaml -f app.yaml down -v')
  assertNothingMounted()
})

test('without its token file compose.yaml does not start', async () => {
  const { exitCode, stdout, stderr } = await sh('rm -f litevol-token; docker compose up -d')
  if (exitCode === 0) {
    // Debian's compose lets Docker make a folder where the file is missing; litevol refuses that.
    const refusal = /LITEVOL_TOKEN_FILE: \/run\/secrets\/litevol-token cannot be read/
    await until('it says so', async () => refusal.test((await engine.logs('litevol_litevol_1')).join('\n')), readyLimitMs)
  } else assert.match(stdout + stderr, /litevol-token/)
  await sh('docker compose down -v; rm -rf litevol-token')
})

test('the docker run line of README starts it too, and serves who has the token', async () => {
  const commands = block('README.md', 'docker run -d --name litevol')
  await works(`head -c 32 /dev/urandom | base64 >litevol-token\n${commands.replaceAll(/^docker build .*\n/gm, '')}`)
  await until('it answers', async () => (await call('GET', '/health').then(({ status }) => status, () => 0)) === 200, readyLimitMs) // prettier-ignore
  await assertGuarded('litevol', 'bridge')
  await assertServes()
  await engine.docker(['stop', 'litevol'])
  assert.equal((await engine.inspect('litevol')).ExitCode, 0)
  assertNothingMounted()
})
