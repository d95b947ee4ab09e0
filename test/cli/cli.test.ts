/** The command as users run it: usage, exit codes, `mount`, `serve`. */
import assert from 'node:assert/strict'
import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import Database from 'better-sqlite3'
import { checkVolume, createVolumeFile } from '../../src/engine/index.ts'
import { findMount, listMounts } from '../../src/fuse/mount.ts'
import { withFolder } from '../support.ts'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
const run = promisify(execFile)
const limit = { timeout: 120_000 }

function litevol(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const options = { encoding: 'utf8' as const, env: { ...process.env, ...env }, timeout: 60_000 }
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', main, ...args], options)
  return { status, stdout, stderr }
}

/** Starts the command; `line` waits for a line of its output. The child is killed when the callback is done. */
async function withCommand(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  work: (child: ChildProcess, line: (pattern: RegExp) => Promise<string>) => Promise<void>,
): Promise<void> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const lines: string[] = []
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', (line) => lines.push(line))
  const line = async (pattern: RegExp): Promise<string> => {
    for (const deadline = Date.now() + 30_000; Date.now() < deadline; await new Promise((resolve) => setTimeout(resolve, 20))) {
      const found = lines.find((one) => pattern.test(one))
      if (found !== undefined) return found
    }
    throw new Error(`no line ${String(pattern)} in:\n${lines.join('\n')}`)
  }
  try {
    await work(child, line)
  } finally {
    child.kill('SIGKILL')
  }
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  const exit = once(child, 'exit', { signal: AbortSignal.timeout(10_000) })
  child.kill(signal)
  assert.deepEqual(await exit, [0, null])
}

test('--version and --help answer on standard output with exit 0', () => {
  assert.deepEqual(litevol(['--version']), { status: 0, stdout: `${manifest.version}\n`, stderr: '' })
  const { status, stdout } = litevol(['--help'])
  assert.equal(status, 0)
  assert.match(stdout, /serve/)
  assert.match(stdout, /mount/)
  assert.match(litevol(['serve', '--help']).stdout, /--data-root .*LITEVOL_DATA_ROOT/s)
})

const misuses: readonly (readonly [readonly string[], RegExp])[] = [
  [['mount'], /missing required argument 'file'/],
  [['mount', 'a', 'b', 'c'], /too many arguments/],
  [['mount', 'a', 'b', '--frobnicate'], /unknown option '--frobnicate'/],
  [['frobnicate'], /unknown command 'frobnicate'/],
  [['check'], /missing required argument 'file'/],
  [['check', 'a', '--frobnicate'], /unknown option '--frobnicate'/],
  [['serve', '--port', 'x'], /--port: 'x' is wrong, must be a whole number/],
  [['serve', '--host', '0.0.0.0'], /LITEVOL_TOKEN_FILE/],
  [['serve', '--driver', 'fuse'], /--driver: 'fuse' is wrong, must be one of direct, fuse-native/],
  [['mount', 'a', 'b', '--driver', 'fuse'], /--driver: 'fuse' is wrong, must be one of direct, fuse-native/],
  [['mount', 'a', 'b', '--log-level', 'loud'], /--log-level: 'loud'/],
]
for (const [args, message] of misuses) {
  test(`litevol ${args.join(' ')} is one line and exit 2`, () => {
    const { status, stdout, stderr } = litevol(args)
    assert.deepEqual([status, stdout], [2, ''])
    assert.match(stderr, message)
    assert.equal(stderr.trimEnd().split('\n').length, 1, stderr)
  })
}

test('mount of what cannot be mounted is one line and exit 1', () =>
  withFolder((folder) => {
    const [file, mountpoint] = [join(folder, 'x'), join(folder, 'mnt')]
    writeFileSync(file, 'no volume '.repeat(1000))
    mkdirSync(mountpoint)
    symlinkSync(folder, join(folder, 'link'))
    for (const [args, message] of [
      [[file, join(folder, 'none')], /none: does not exist/],
      [[file, file], /is not a directory/],
      [[join(folder, 'none'), mountpoint], /none: does not exist/],
      [[file, mountpoint], /not a litevol volume|not a database|damaged/],
      [[file, mountpoint, '--create'], /exists already/],
      [[join(mountpoint, 'v'), mountpoint, '--create'], /mnt\/v: lies below the mountpoint \S+mnt, which would hide it/],
      [[join(folder, 'link/mnt/v'), mountpoint, '--create'], /mnt\/v: lies below the mountpoint/],
      [[file, folder], /x: lies below the mountpoint/],
      [[file, '/'], /x: lies below the mountpoint \//],
    ] as const) {
      const { status, stderr } = litevol(['mount', ...args], { LITEVOL_LOG_LEVEL: 'silent' })
      assert.equal(status, 1, stderr)
      assert.match(stderr, message)
      assert.equal(stderr.trimEnd().split('\n').length, 1, stderr)
    }
    assert.equal(findMount(folder), undefined)
    assert.deepEqual(readdirSync(mountpoint), [], 'nothing was made')
  }))

test('check says what is wrong and where: exit 0 sound, 1 findings, 2 cannot be checked', () =>
  withFolder((folder) => {
    const [file, link, text] = [join(folder, 'v.sqlite'), join(folder, 'link'), join(folder, 'text')]
    createVolumeFile(file)
    symlinkSync(file, link)
    writeFileSync(text, 'no volume '.repeat(1000))
    assert.deepEqual(litevol(['check', file]), { status: 0, stdout: `${file}: sound\n`, stderr: '' })
    assert.deepEqual(litevol(['check', '--deep', link]), { status: 0, stdout: `${link}: sound, every chunk read\n`, stderr: '' })
    new Database(file).exec('UPDATE inodes SET nlink = 9').close()
    const rule = 'nlink of a directory is 2 and its subdirectories'
    const findings = { status: 1, stdout: `inode 2 (/): breaks "${rule}"\n${file}: 1 finding\n`, stderr: '' }
    assert.deepEqual(litevol(['check', file]), findings)
    const json = litevol(['check', '--json', file])
    assert.deepEqual([json.status, JSON.parse(json.stdout)], [1, { file, deep: false, findings: [{ rule, place: 'inode 2 (/)' }] }])
    new Database(file).exec('PRAGMA user_version = 99').close()
    for (const [bad, fault] of [
      [file, /format version 99 is newer/],
      [text, /not a database/],
      [join(folder, 'none'), /does not exist/],
    ] as const) {
      const { status, stdout, stderr } = litevol(['check', bad])
      assert.deepEqual([status, stdout, stderr.trimEnd().split('\n').length], [2, '', 1], stderr)
      assert.match(stderr, fault)
    }
    assert.deepEqual(readdirSync(folder).sort(), ['link', 'text', 'v.sqlite'])
  }))

test('check refuses a volume that is mounted, and with --force checks its last commit', limit, () =>
  withFolder(async (folder) => {
    const [file, mountpoint] = [join(folder, 'v.sqlite'), join(folder, 'mnt')]
    mkdirSync(mountpoint)
    await withCommand(['mount', file, mountpoint, '--create'], {}, async (child, line) => {
      await line(/mounted/)
      await run('sh', ['-c', 'echo x > "$1/x"; sync "$1/x"', 'sh', mountpoint], { timeout: 20_000 })
      const refused = litevol(['check', file])
      assert.equal(refused.status, 2)
      assert.match(refused.stderr, /held by process \d+ \(litevol: serving.*--force/)
      assert.deepEqual(litevol(['check', '--force', '--deep', file]), {
        status: 0,
        stdout: `${file}: sound, every chunk read\n`,
        stderr: '',
      })
      await run('sh', ['-c', 'echo y > "$1/y"', 'sh', mountpoint], { timeout: 20_000 })
      await end(child, 'SIGTERM')
    })
    assert.deepEqual(readdirSync(folder).sort(), ['mnt', 'v.sqlite'])
    assert.deepEqual(checkVolume(file, { deep: true }), [])
  }),
)

for (const how of ['umount', 'SIGTERM', 'SIGINT'] as const) {
  test(`mount --create serves until ${how} and leaves one whole file`, limit, () =>
    withFolder(async (folder) => {
      const [file, mountpoint] = [join(folder, 'v.sqlite'), join(folder, 'mnt')]
      mkdirSync(mountpoint)
      await withCommand(['mount', file, mountpoint, '--create'], {}, async (child, line) => {
        assert.equal(await line(/mounted/), `mounted ${file} on ${mountpoint}`)
        assert.partialDeepStrictEqual(findMount(mountpoint), { fstype: 'fuse.litevol', source: file })
        await run('sh', ['-c', 'echo x > "$1/x"', 'sh', mountpoint], { timeout: 20_000 })
        if (how === 'umount') {
          const exit = once(child, 'exit', { signal: AbortSignal.timeout(20_000) })
          await run('umount', [mountpoint], { timeout: 20_000 })
          assert.deepEqual(await exit, [0, null])
        } else await end(child, how)
      })
      assert.equal(findMount(mountpoint), undefined)
      assert.deepEqual(readdirSync(folder).sort(), ['mnt', 'v.sqlite'])
      assert.deepEqual(checkVolume(file, { deep: true }), [])
    }),
  )
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`serve on a unix socket stops on ${signal} with exit 0 and leaves nothing mounted or shared`, limit, () =>
    withFolder(async (folder) => {
      const socket = join(folder, 'api.sock')
      const env = {
        LITEVOL_SOCKET: socket,
        LITEVOL_DATA_ROOT: join(folder, 'data'),
        LITEVOL_MOUNT_ROOT: join(folder, 'mnt'),
        LITEVOL_LOG_LEVEL: 'warn',
        LITEVOL_MOUNT_TIMEOUT: '60',
      }
      await withCommand(['serve'], env, async (child, line) => {
        assert.partialDeepStrictEqual(JSON.parse(await line(/listening/)), { name: 'litevol', address: `unix:${socket}` })
        const curl = async (...args: string[]): Promise<string> =>
          (await run('curl', ['-fsS', '--unix-socket', socket, ...args], { timeout: 30_000 })).stdout
        const { id } = JSON.parse(await curl('http://x/volumes', '-H', 'content-type: application/json', '-d', '{"name":"a"}')) as {
          id: string
        }
        await curl('-X', 'POST', `http://x/volumes/${id}/mount`)
        assert.partialDeepStrictEqual(findMount(join(folder, 'mnt', id)), { fstype: 'fuse.litevol' })
        const second = litevol(['serve'], { ...env, LITEVOL_SOCKET: `${socket}2` })
        assert.equal(second.status, 1, 'a second manager on the data root is refused')
        assert.match(second.stderr, /another manager holds the lock/)
        assert.partialDeepStrictEqual(findMount(join(folder, 'mnt', id)), { fstype: 'fuse.litevol' })
        await end(child, signal)
      })
      assert.deepEqual(listMounts().filter(({ mountpoint }) => mountpoint.startsWith(folder)), []) // prettier-ignore
      assert.equal(readdirSync(join(folder, 'data', 'volumes')).length, 1)
      assert.ok(!existsSync(socket))
    }),
  )
}

test('a killed manager leaves nothing that the next start does not clean up', limit, () =>
  withFolder(async (folder) => {
    const socket = join(folder, 'api.sock')
    const mountRoot = join(folder, 'mnt')
    const env = {
      LITEVOL_SOCKET: socket,
      LITEVOL_DATA_ROOT: join(folder, 'data'),
      LITEVOL_MOUNT_ROOT: mountRoot,
      LITEVOL_LOG_LEVEL: 'warn',
      LITEVOL_MOUNT_TIMEOUT: '60',
    }
    const curl = async (...args: string[]): Promise<string> =>
      (await run('curl', ['-fsS', '--unix-socket', socket, ...args], { timeout: 30_000 })).stdout
    let id = ''
    await withCommand(['serve'], env, async (child, line) => {
      await line(/listening/)
      ;({ id } = JSON.parse(await curl('http://x/volumes', '-H', 'content-type: application/json', '-d', '{"name":"a"}')) as { id: string })
      await curl(`http://x/volumes/${id}/mount`, '-H', 'content-type: application/json', '-d', '{"persist":true}')
      await run('sh', ['-c', 'echo kept > "$1/x"; sync "$1/x"', 'sh', join(mountRoot, id)], { timeout: 20_000 })
      const { pid } = JSON.parse(await curl(`http://x/volumes/${id}/mount`)) as { pid: number }
      process.kill(pid, 'SIGSTOP') // it cannot unmount by itself now
      child.kill('SIGKILL')
      await once(child, 'exit')
      process.kill(pid, 'SIGKILL')
    })
    await withCommand(['serve'], env, async (child, line) => {
      await line(/listening/)
      assert.partialDeepStrictEqual(JSON.parse(await curl(`http://x/volumes/${id}/mount`)), { mounted: true })
      assert.equal((await run('cat', [join(mountRoot, id, 'x')], { timeout: 20_000 })).stdout, 'kept\n')
      await end(child, 'SIGTERM')
    })
    await run('umount', ['-l', mountRoot]).catch(() => undefined) // the first manager's own bind, which a killed one cannot take away
    assert.deepEqual(readdirSync(mountRoot), [])
  }),
)
