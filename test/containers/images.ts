/**
 * The images of the tests: the one the Dockerfile begins with, made without a registry; litevol's own; a consumer's.
 * Keeps: the Dockerfile is built as it stands: the base has its FROM name. What this machine needs to reach npm and Debian (a CA
 *   file, a registry, a proxy) is read from its settings and goes into the base image, never into a file of the repository.
 * Leaves: the root filesystem of the base to base-image.ts.
 */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { execFileSync } from 'node:child_process'
import { readProject, root } from '../project/project.ts'
import { makeBase } from './base-image.ts'
import { runFolder, type Engine } from './engine.ts'

/** litevol's image in the tests. */
export const litevolImage = 'litevol:test'
/** busybox, static, with a link for each of its commands. */
export const consumerImage = 'litevol-test-consumer:1'

/** A first build installs packages twice: minutes on a slow line. */
const buildLimitMs = 600_000
const importLimitMs = 120_000

/** The name after FROM: one for all stages. */
export function baseName(): string {
  const names = new Set([...readProject('Dockerfile').matchAll(/^FROM (\S+)/gm)].map(([, name]) => name))
  const [name] = names
  if (name === undefined || names.size > 1) throw new Error(`Dockerfile: one base image was expected, not ${[...names].join(', ')}`)
  return name
}

/** Imports the base, unless the engine has it already. */
export async function prepareBase(engine: Engine): Promise<void> {
  const { tarball, key, environment } = await makeBase()
  const made = `litevol-test-base:${key}`
  if (!(await engine.hasImage(made))) {
    const settings = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...environment }
    const changes = Object.entries(settings).flatMap(([name, value]) => ['--change', `ENV ${name}=${value}`])
    await engine.docker(['import', ...changes, '--change', 'CMD ["node"]', tarball, made], { timeoutMs: importLimitMs })
  }
  await engine.docker(['tag', made, baseName()])
}

/** Builds litevol's image on the network of the machine; returns what the builder said. */
export function buildLitevol(engine: Engine): Promise<string> {
  return engine.docker(['build', '--network', 'host', '--tag', litevolImage, ...proxies(), root], { timeoutMs: buildLimitMs })
}

/** Makes the consumer's image, unless the engine has it already. */
export async function prepareConsumer(engine: Engine): Promise<void> {
  if (await engine.hasImage(consumerImage)) return
  const folder = mkdtempSync(join(runFolder(), 'consumer-'))
  const bin = join(folder, 'bin')
  for (const name of [bin, join(folder, 'tmp')]) mkdirSync(name)
  copyFileSync('/bin/busybox', join(bin, 'busybox'))
  const commands = execFileSync('/bin/busybox', ['--list'], { encoding: 'utf8' }).trim().split('\n')
  for (const command of commands.filter((name) => name !== 'busybox')) symlinkSync('busybox', join(bin, command))
  const tarball = `${folder}.tar`
  execFileSync('tar', ['--owner=0', '--group=0', '-C', folder, '-cf', tarball, '.'])
  await engine.docker(['import', '--change', 'CMD ["sh"]', tarball, consumerImage], { timeoutMs: importLimitMs })
  for (const path of [folder, tarball]) rmSync(path, { recursive: true })
}

/** Proxies of this machine; the builder knows these arguments without being told, and keeps them out of the image. */
function proxies(): string[] {
  const names = ['http_proxy', 'https_proxy', 'no_proxy'].flatMap((name) => [name, name.toUpperCase()])
  return names.filter((name) => (process.env[name] ?? '') !== '').flatMap((name) => ['--build-arg', name]) // the value is taken from the environment
}
