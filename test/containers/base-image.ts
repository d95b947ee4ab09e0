/**
 * The root filesystem of the image that the Dockerfile begins with, as a tarball: Debian by debootstrap, Node and npm from npm.
 * Keeps: it is made once and kept in the cache folder until what it is made of changes (the key); half of one is never used.
 * Leaves: importing it to images.ts.
 *
 * It stands in for Docker's `node:24-bookworm-slim`, which no registry needs to be reached for: Node and npm lie where that has them.
 */
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs' // prettier-ignore
import { createHash } from 'node:crypto'
import { basename, dirname, join } from 'node:path'
import { execa } from 'execa'
import { readProject } from '../project/project.ts'
import { cacheFolder } from './engine.ts'

/** Raise it when what this file does changes. */
const recipe = '1'
const suite = 'bookworm'
const npmVersion = '11'
/** debootstrap and npm, in ms: 30 s were seen. */
const makeLimitMs = 600_000

/** A base: its tarball, a name for what it is made of, variables that it needs. */
export interface Base {
  readonly tarball: string
  readonly key: string
  readonly environment: Readonly<Record<string, string>>
}

/** What this machine needs to reach Debian and npm; empty where nothing is special. */
interface Host {
  readonly mirror: string
  readonly apt: string
  readonly npm: string
  /** A file of certificates that Node is to believe, and others as well. */
  readonly certificates: string
}

/** Finds the tarball, or makes it. */
export async function makeBase(): Promise<Base> {
  const node = nodePackage()
  const host = await describeHost()
  const certificates = host.certificates === '' ? Buffer.alloc(0) : readFileSync(host.certificates)
  const key = createHash('sha256').update(JSON.stringify([recipe, suite, node, npmVersion, host])).update(certificates).digest('hex').slice(0, 16) // prettier-ignore
  const tarball = join(cacheFolder(), `base-${key}.tar`)
  if (!existsSync(tarball)) {
    for (const name of readdirSync(cacheFolder()).filter((one) => one.startsWith('base-'))) removeFolder(join(cacheFolder(), name))
    await make(tarball, node, host)
  }
  return { tarball, key, environment: host.certificates === '' ? {} : { NODE_EXTRA_CA_CERTS: host.certificates } }
}

/** The Node that bin/litevol brings, by its package and version. */
function nodePackage(): string {
  const name = `node-linux-${process.arch}`
  const { optionalDependencies } = JSON.parse(readProject('runtime/package.json')) as {
    readonly optionalDependencies: Readonly<Record<string, string>>
  }
  const version = optionalDependencies[name]
  if (version === undefined) throw new Error(`runtime/package.json: has no ${name}`)
  return `${name}@${version}`
}

async function describeHost(): Promise<Host> {
  const targets = await run('apt-get', ['indextargets', '--format', '$(REPO_URI) $(CODENAME) $(COMPONENT)', 'Created-By: Packages'])
  const mirror = targets.split('\n').map((line) => line.split(' ')).find(([, codename, component]) => codename === suite && component === 'main') // prettier-ignore
  const settings = (await run('apt-config', ['dump'])).split('\n')
  const npm: string[] = []
  for (const name of ['registry', 'cafile', 'proxy', 'https-proxy']) {
    const value = (await run('npm', ['config', 'get', name, '--loglevel=error'])).trim()
    if (!['null', 'undefined', '', 'https://registry.npmjs.org/'].includes(value)) npm.push(`${name}=${value}`)
  }
  const cafile = npm.find((line) => line.startsWith('cafile='))?.slice('cafile='.length) ?? ''
  return {
    mirror: mirror?.[0] ?? 'http://deb.debian.org/debian/',
    apt: settings.filter((line) => /^Acquire::(http|https)::(Proxy|CaInfo)\b.*"[^"]+"/i.test(line)).join('\n'),
    npm: npm.join('\n'),
    certificates: process.env['NODE_EXTRA_CA_CERTS'] ?? cafile,
  }
}

async function make(tarball: string, node: string, host: Host): Promise<void> {
  const folder = `${tarball}.partial`
  const rootfs = join(folder, 'rootfs')
  mkdirSync(folder, { recursive: true })
  try {
    await run('debootstrap', ['--variant=minbase', suite, rootfs, host.mirror])
    await run('npm', ['install', '--prefix', folder, '--no-save', '--ignore-scripts', '--no-audit', '--no-fund', node, `npm@${npmVersion}`])
    placeNode(join(folder, 'node_modules'), join(rootfs, 'usr/local'))
    placeSettings(rootfs, host)
    for (const name of ['var/cache/apt/archives', 'var/lib/apt/lists']) {
      const path = join(rootfs, name)
      for (const entry of readdirSync(path)) removeFolder(join(path, entry))
    }
    await run('tar', ['-C', rootfs, '-cf', join(folder, 'rootfs.tar'), '.'])
    renameSync(join(folder, 'rootfs.tar'), tarball)
  } finally {
    removeFolder(folder)
  }
}

function placeNode(packages: string, local: string): void {
  const node = readdirSync(packages).find((name) => name.startsWith('node-linux-'))
  if (node === undefined) throw new Error(`npm brought no Node: ${readdirSync(packages).join(', ')}`)
  copyFileSync(join(packages, node, 'bin/node'), join(local, 'bin/node'))
  chmodSync(join(local, 'bin/node'), 0o755)
  mkdirSync(join(local, 'lib/node_modules'), { recursive: true })
  cpSync(join(packages, 'npm'), join(local, 'lib/node_modules/npm'), { recursive: true })
  for (const name of ['npm', 'npx']) symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, join(local, 'bin', name))
}

function placeSettings(rootfs: string, { apt, npm, certificates }: Host): void {
  writeFileSync(join(rootfs, 'etc/apt/apt.conf.d/99-host'), `${apt}\n`)
  mkdirSync(join(rootfs, 'usr/local/etc'), { recursive: true })
  writeFileSync(join(rootfs, 'usr/local/etc/npmrc'), `${npm}\n`)
  for (const file of new Set([certificates, ...[...apt.matchAll(/CaInfo.*"([^"]+)"/gi)].map(([, name]) => name ?? '')])) {
    if (file === '' || !existsSync(file)) continue
    mkdirSync(join(rootfs, dirname(file)), { recursive: true })
    copyFileSync(file, join(rootfs, dirname(file), basename(file)))
  }
}

async function run(program: string, args: readonly string[]): Promise<string> {
  const { stdout } = await execa(program, args, { stdin: 'ignore', timeout: makeLimitMs, killSignal: 'SIGKILL', env: { LC_ALL: 'C' } })
  return stdout
}

function removeFolder(path: string): void {
  rmSync(path, { recursive: true, force: true })
}
