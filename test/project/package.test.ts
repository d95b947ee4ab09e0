/**
 * The published package: what `npm pack` makes installs into an empty project and works there, on compiled JavaScript.
 * Needs npm and its registry (or its cache, which the clone's own install has filled).
 */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { readManifest, root } from './project.ts'

const run = promisify(execFile)
const folder = mkdtempSync(join(tmpdir(), 'litevol-project-'))
const project = join(folder, 'project')
const litevol = join(project, 'node_modules/.bin/litevol')
const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`, npm_config_prefer_offline: 'true' }

// A copy of the clone is packed, so that the work tree gets no dist of which another test might take notice.
before(async () => {
  const clone = join(folder, 'clone')
  mkdirSync(clone)
  const left = new Set(['node_modules', '.git', 'dist', 'test'])
  for (const name of readdirSync(root).filter((entry) => !left.has(entry))) {
    cpSync(join(root, name), join(clone, name), { recursive: true, filter: (from) => !from.includes('node_modules') })
  }
  symlinkSync(join(root, 'node_modules'), join(clone, 'node_modules'))
  mkdirSync(project)
  writeFileSync(join(project, 'package.json'), '{"name":"empty","private":true}')
  await run('npm', ['pack', '--loglevel=error', '--pack-destination', folder], { cwd: clone, env })
  const tarball = join(folder, `litevol-${readManifest('package.json').version}.tgz`)
  await run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', tarball], { cwd: project, env })
})
after(() => rmSync(folder, { recursive: true, force: true }))

test('the package holds what it needs to start, compiled, and no sources or tests', () => {
  const installed = join(project, 'node_modules/litevol')
  for (const name of [
    'bin/litevol',
    'bin/mount.fuse.litevol',
    'bin/runtime.sh',
    'dist/cli/main.js',
    'runtime/package.json',
    'runtime/package-lock.json',
    'LICENSE',
  ]) {
    assert.ok(existsSync(join(installed, name)), `${name} is not in the package`)
  }
  for (const name of ['src', 'test', 'scripts', 'bench', 'package-lock.json', 'runtime/node_modules']) {
    assert.ok(!existsSync(join(installed, name)), `${name} is in the package`)
  }
})

test('the installed litevol says its version, and nothing else', async () => {
  const { stdout, stderr } = await run(litevol, ['--version'], { cwd: project, env })
  assert.deepEqual([stdout, stderr], [`${readManifest('package.json').version}\n`, ''])
})

test('the installed litevol mounts a volume, which is a directory until SIGTERM', async () => {
  const [file, mountpoint] = [join(folder, 'volume.sqlite'), join(folder, 'mountpoint')]
  mkdirSync(mountpoint)
  const child = spawn(litevol, ['mount', '--create', file, mountpoint], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  child.stderr.on('data', (data: Buffer) => (log += data.toString()))
  const ended = once(child, 'exit')
  try {
    await untilMounted(
      mountpoint,
      () => child.exitCode !== null,
      () => log,
    )
    await run('sh', ['-c', `echo kept > '${mountpoint}/file' && cat '${mountpoint}/file'`], { timeout: 20_000 })
  } finally {
    child.kill('SIGTERM')
    await Promise.race([ended, sleep(20_000, undefined, { ref: false })])
    // Only after a failure is there anything left to unmount.
    await run('umount', ['-l', mountpoint]).catch(() => undefined)
  }
  assert.deepEqual(await ended, [0, null], log)
  assert.ok(existsSync(file) && !existsSync(`${file}-wal`), 'one file remains')
})

test('the installed helper of mount(8) mounts through a link, and the mount serves when it returns', async () => {
  const [file, mountpoint, link] = [join(folder, 'volume.sqlite'), join(folder, 'mountpoint'), join(folder, 'mount.fuse.litevol')]
  symlinkSync(join(project, 'node_modules/.bin/mount.fuse.litevol'), link)
  try {
    await run(link, [file, mountpoint, '-o', `rw,noatime,log=${join(folder, 'log')}`], { env, timeout: 60_000 })
    const { stdout } = await run('sh', ['-c', `cat '${mountpoint}/file'`], { timeout: 20_000 })
    assert.equal(stdout, 'kept\n')
  } finally {
    await run('umount', [mountpoint])
  }
  for (let tries = 0; existsSync(`${file}-wal`); tries++) {
    assert.ok(tries < 300, 'one file remains')
    await sleep(100)
  }
})

/** Resolves when `mountpoint` is one; rejects when its server has ended or half a minute has passed. */
async function untilMounted(mountpoint: string, hasEnded: () => boolean, log: () => string): Promise<void> {
  for (let tries = 0; tries < 300 && !hasEnded(); tries++) {
    const isMounted = await run('mountpoint', ['-q', mountpoint], { timeout: 5000 }).then(
      () => true,
      () => false,
    )
    if (isMounted) return
    await sleep(100)
  }
  assert.fail(`nothing was mounted: ${log()}`)
}
