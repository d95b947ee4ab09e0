/**
 * Dockerfile and compose.yaml say the same names, paths and ports as the code and as each other.
 * Leaves: building and running them to test/containers.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { settings } from '../../src/config.ts'
import { until } from '../support.ts'
import { readManifest, readProject, root } from './project.ts'

/** The parts of compose.yaml that these tests look at. */
interface Service {
  readonly privileged?: boolean
  readonly cap_add: readonly string[]
  readonly security_opt: readonly string[]
  readonly devices: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  readonly secrets: readonly string[]
  readonly volumes: readonly string[]
  readonly ports: readonly string[]
}
interface Compose {
  readonly services: { readonly litevol: Service }
  readonly volumes: Readonly<Record<string, unknown>>
  readonly secrets: Readonly<Record<string, { readonly file: string }>>
}

const compose = parse(readProject('compose.yaml')) as Compose
const service = compose.services.litevol
/** The Dockerfile's instructions, continued lines joined, comments left out. */
const instructions = readProject('Dockerfile')
  .replaceAll(/^#.*\n/gm, '')
  .replaceAll('\\\n', ' ')
  .split('\n')
  .filter((line) => line !== '')
const env: Readonly<Record<string, string>> = Object.fromEntries(
  [...find('ENV').matchAll(/([A-Z_]+)=(\S+)/g)].map(([, name = '', value = '']) => [name, value]),
)

/** What follows the last instruction of that name. */
function find(name: string): string {
  const line = instructions.findLast((instruction) => instruction.startsWith(`${name} `))
  assert.ok(line, `the Dockerfile has no ${name}`)
  return line.slice(name.length + 1).trim()
}

const known = new Set(Object.values(settings).map((setting) => setting.env))
const own = (names: readonly string[]): string[] => names.filter((name) => name.startsWith('LITEVOL_'))

test('every variable in the Dockerfile is a setting of the code', () => {
  const names = own([...readProject('Dockerfile').matchAll(/\bLITEVOL_[A-Z_]+/g)].map(([name]) => name))
  assert.deepEqual(
    names.filter((name) => !known.has(name)),
    [],
  )
  assert.ok(names.includes('LITEVOL_HOST'))
})

test('every variable in compose.yaml is a setting of the code', () => {
  const names = own(Object.keys(service.environment))
  assert.deepEqual(
    names.filter((name) => !known.has(name)),
    [],
  )
  assert.ok(names.includes('LITEVOL_TOKEN_FILE'))
})

test('compose.yaml repeats what the image sets, and contradicts none of it', () => {
  for (const [name, value] of Object.entries(service.environment)) {
    if (name in env) assert.equal(value, env[name], name)
  }
})

test('the data volume and the mount root lie where the settings say', () => {
  const dataRoot = service.environment['LITEVOL_DATA_ROOT']
  assert.equal(dataRoot, '/var/lib/litevol')
  assert.equal(find('VOLUME'), dataRoot)
  const [data, mounts] = service.volumes.map((volume) => volume.split(':'))
  assert.deepEqual(data, ['data', dataRoot])
  assert.ok('data' in compose.volumes)
  assert.deepEqual(mounts, [service.environment['LITEVOL_HOST_MOUNT_ROOT'], service.environment['LITEVOL_MOUNT_ROOT'], 'rshared'])
})

test('the port is one, and reached from this host only', () => {
  assert.equal(find('EXPOSE'), env['LITEVOL_PORT'])
  assert.deepEqual(service.ports, [`127.0.0.1:${env['LITEVOL_PORT']}:${env['LITEVOL_PORT']}`])
})

test('the token comes from a secret, since the service listens on every address of its container', () => {
  assert.equal(env['LITEVOL_HOST'], '0.0.0.0')
  const [secret] = service.secrets
  assert.ok(secret)
  assert.equal(service.environment['LITEVOL_TOKEN_FILE'], `/run/secrets/${secret}`)
  const { file } = compose.secrets[secret] ?? {}
  assert.ok(file)
  assert.match(readProject('.gitignore'), new RegExp(`^${file.replace('./', '/')}$`, 'm'))
})

test('the container may mount, and no more: it is not privileged', () => {
  assert.equal(service.privileged, undefined)
  assert.deepEqual(service.cap_add, ['SYS_ADMIN'])
  assert.deepEqual(service.security_opt, ['apparmor=unconfined'])
  assert.deepEqual(service.devices, ['/dev/fuse:/dev/fuse'])
})

test('the image carries the version of the package', () => {
  assert.ok(find('LABEL').includes(`org.opencontainers.image.version="${readManifest('package.json').version}"`))
  assert.match(
    readProject('compose.yaml'),
    new RegExp(`image: litevol:${readManifest('package.json').version.replaceAll('.', '\\.')}$`, 'm'),
  )
})

test('everything the Dockerfile copies exists and reaches the builder', () => {
  const sources = instructions
    .filter((line) => line.startsWith('COPY ') && !line.includes('--from='))
    .flatMap((line) => line.split(/\s+/).slice(1, -1))
  const sent = new Set([...readProject('.dockerignore').matchAll(/^!(.+)$/gm)].map(([, name]) => name))
  for (const source of sources.map((name) => name.replace('./', ''))) {
    assert.ok(existsSync(join(root, source)), `${source} does not exist`)
    assert.ok(sent.has(source), `${source} is kept out by .dockerignore`)
  }
})

test('the last stage links the command into PATH and the helper of mount(8) into /sbin, and both can be run', () => {
  const links = [...readProject('Dockerfile').matchAll(/ln -s \/app\/(\S+) (\S+)/g)].map(([, target = '', link = '']) => [target, link])
  assert.deepEqual(links, [
    ['bin/litevol', '/usr/local/bin/litevol'],
    ['bin/mount.fuse.litevol', '/sbin/mount.fuse.litevol'],
  ])
  for (const [target = ''] of links) {
    assert.ok((statSync(join(root, target)).mode & 0o111) === 0o111, target)
    assert.match(readProject('Dockerfile'), new RegExp(`chmod 755 .*\\b${target.replaceAll('.', '\\.')}\\b`))
  }
})

test('the last stage installs no compiler', () => {
  const last = instructions.slice(instructions.findLastIndex((line) => line.startsWith('FROM ')))
  assert.doesNotMatch(last.join('\n'), /\b(gcc|g\+\+|build-essential|make|npm ci)\b/)
})

for (const [answer, verdict] of [
  [200, 0],
  [503, 1],
] as const) {
  test(`the health check exits ${verdict} when /health answers ${answer}`, async (t) => {
    const server = createServer((request, response) => response.writeHead(request.url === '/health' ? answer : 404).end())
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.after(() => server.close())
    const check = (): Promise<number> => healthCheck(String((server.address() as AddressInfo).port))
    // It waits for an answer for four seconds, which a machine may stand still.
    if (verdict === 0) await until('it is healthy', async () => (await check()) === verdict)
    else assert.equal(await check(), verdict)
  })
}

test('the health check exits 1 when nobody listens', async () => {
  assert.equal(await healthCheck('1'), 1)
})

/** Runs the Dockerfile's HEALTHCHECK with the image's variables but that port, and resolves to its exit code. */
function healthCheck(port: string): Promise<number> {
  const [program, ...args] = JSON.parse(find('HEALTHCHECK').replace(/^.*?CMD /, '')) as string[]
  assert.equal(program, 'node')
  return new Promise((resolve) => {
    const child = execFile(process.execPath, args, { env: { ...env, LITEVOL_PORT: port } }, () => resolve(child.exitCode ?? -1))
  })
}
