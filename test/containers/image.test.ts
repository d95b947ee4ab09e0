/** The image as it is built: how large, whose, what it says of itself, how it starts, is watched and stops. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, afterEach, before, test } from 'node:test'
import { readManifest, root } from '../project/project.ts'
import { until } from '../support.ts'
import { Engine } from './engine.ts'
import { baseName, consumerImage, litevolImage } from './images.ts'
import { Manager, assertNothingMounted, hostMountRoot, managerFlags, readyLimitMs, leastRights } from './manager.ts'

/** What is promised, over the base. */
const mostBytes = 60e6

let engine: Engine
before(async () => (engine = await Engine.start()))
after(() => engine.stop())
afterEach(async () => {
  await engine.removeContainers()
  await engine.tryDocker(['volume', 'rm', 'litevol'])
})

/** Runs a script in a new container of the image, as root, without litevol. */
const inImage = (script: string): Promise<string> => engine.docker(['run', '--rm', '--network', 'none', '--entrypoint', 'sh', litevolImage, '-c', script]) // prettier-ignore

test('the image is at most 60 MB larger than its base', async (t) => {
  const [size = 0, base = 0] = (await engine.docker(['image', 'inspect', '--format', '{{.Size}}', litevolImage, baseName()]))
    .split('\n')
    .map(Number)
  const over = size - base
  t.diagnostic(`${(over / 1e6).toFixed(1)} MB over a base of ${(base / 1e6).toFixed(1)} MB`)
  assert.ok(over > 1e6 && over <= mostBytes, String(over))
})

test('no file of the image can be written by others, and none of /app by its group', async () => {
  const writable = await inImage('find / -xdev ! -type l -perm -002 ! -path "/proc/*" ! -path "/dev/*"; find /app ! -type l -perm /022; find /app ! -user root') // prettier-ignore
  // Debian's own, with the sticky bit.
  assert.deepEqual(writable.split('\n').sort(), ['/run/lock', '/tmp', '/var/tmp'])
  assert.equal(await inImage('find /tmp /var/tmp /run/lock -perm -002 ! -perm -1000'), '')
})

test('no compiler, no list of packages and nothing of the developers is in the image', async () => {
  const unwanted = 'for name in gcc cc make python3; do command -v $name; done; ls -A /var/lib/apt/lists; find /app -name "*.ts" ! -path "*/node_modules/*"; ls -d /app/node_modules/typescript /app/node_modules/eslint /app/test /root/.npm 2>/dev/null; true' // prettier-ignore
  assert.equal(await inImage(unwanted), '')
})

test('the labels name the project, its licence and its version', async () => {
  const labels = JSON.parse(await engine.docker(['image', 'inspect', '--format', '{{json .Config.Labels}}', litevolImage])) as Record<string, string> // prettier-ignore
  assert.partialDeepStrictEqual(labels, {
    'org.opencontainers.image.title': 'litevol',
    'org.opencontainers.image.licenses': 'Apache-2.0',
    'org.opencontainers.image.version': readManifest('package.json').version,
  })
  assert.ok(labels['org.opencontainers.image.description'])
})

test('the command line works in the image, and other commands than serve too', async () => {
  assert.equal(await engine.docker(['run', '--rm', litevolImage, '--version']), readManifest('package.json').version)
  const help = await engine.docker(['run', '--rm', litevolImage, 'check', '--help'])
  assert.match(help, /prove a volume file consistent/)
})

test('the container becomes healthy, and unhealthy when it does not answer', async () => {
  const manager = await Manager.start(engine, { flags: ['--health-interval', '1s', '--health-timeout', '2s', '--health-retries', '1'] })
  const becomes = (status: string): Promise<void> =>
    until(status, async () => (await manager.state()).Health?.Status === status, readyLimitMs)
  await becomes('healthy')
  // Its node is told to stop working, not to end: what a hang looks like from outside.
  const pid = await manager.inside('cat /proc/1/task/1/children')
  await manager.inside(`kill -STOP ${pid}`)
  await becomes('unhealthy')
  await manager.inside(`kill -CONT ${pid}`)
  await becomes('healthy')
})

test('SIGTERM unmounts every volume, leaves one file for each and ends with 0 within 10 s, also with busy consumers', async () => {
  const manager = await Manager.start(engine)
  const [used, busy] = [await manager.provide('used'), await manager.provide('busy')]
  await manager.consume(`${hostMountRoot}/${used}:/data`, 'echo kept >/data/file')
  const consumer = await manager.keepConsumer('busy', `${hostMountRoot}/${busy}:/data`)
  await engine.docker(['exec', '-d', 'busy', 'sh', '-c', 'while :; do echo line; done >>/data/log'])
  await until('the log grows', async () => (await consumer.try('test -s /data/log')).exitCode === 0, readyLimitMs)
  await manager.stop()
  assertNothingMounted()
  const files = await engine.docker(['run', '--rm', '-v', 'litevol:/v', consumerImage, 'ls', '/v/volumes'])
  assert.deepEqual(files.split('\n').sort(), [`${used}.litevol`, `${busy}.litevol`].sort())
  const check = ['run', '--rm', '-v', 'litevol:/var/lib/litevol', litevolImage, 'check', '--deep']
  for (const id of [used, busy]) {
    assert.match(await engine.docker([...check, `/var/lib/litevol/volumes/${id}.litevol`]), /: sound/)
  }
  await manager.again()
  await manager.mount(used)
  assert.equal(await manager.consume(`${hostMountRoot}/${used}:/data`, 'cat /data/file'), 'kept')
  await manager.stop()
  await engine.docker(['rm', '-f', 'busy'])
})

test('every log line is JSON, from preflight to the last volume', async () => {
  const manager = await Manager.start(engine)
  const id = await manager.provide('logged')
  await manager.consume(`${hostMountRoot}/${id}:/data`, 'echo x >/data/x')
  await manager.stop()
  const lines = (await engine.logs('litevol')).map((line) => JSON.parse(line) as { msg: string; level: number; time: string })
  assert.ok(lines.some(({ msg }) => msg.startsWith('preflight: ')))
  assert.ok(lines.some(({ msg }) => msg === 'listening on http://0.0.0.0:8080'))
  assert.ok(lines.some(({ msg }) => msg === 'volume state'))
  for (const { msg, level, time } of lines) {
    assert.ok(level < 50, msg)
    assert.ok(Date.parse(time) > 0)
  }
})

test('without a token the container does not listen on every address: it ends, and says what is needed', async () => {
  const flags = managerFlags(engine).filter((flag) => !flag.includes('litevol-token'))
  const run = ['run', '--name', 'litevol', ...flags.filter((flag, at) => !(['-e', '-v'].includes(flag) && ['-e', '-v', ...leastRights].includes(flags[at + 1] ?? '-e'))), litevolImage] // prettier-ignore
  const { exitCode, stderr } = await engine.tryDocker(run)
  assert.equal(exitCode, 2)
  assert.match(stderr, /LITEVOL_TOKEN_FILE/)
})

test('scripts/smoke-image.sh, by which the workflow tries an image before it is published, finds it working and leaves nothing', async () => {
  const { exitCode, stdout, stderr } = await engine.run('sh', [join(root, 'scripts/smoke-image.sh'), litevolImage])
  assert.equal(exitCode, 0, stderr)
  assert.match(stdout, /litevol:test: works$/)
  assert.equal(await engine.docker(['ps', '-aq']), '')
  const broken = await engine.run('sh', [join(root, 'scripts/smoke-image.sh'), consumerImage])
  assert.equal(broken.exitCode, 1)
})
