/** The checks before the start, and the sharing of the mount root. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { listMounts, mountFuse, openFuseDevice } from '../../src/fuse/mount.ts'
import { assertReachesHost, assertShared, findOtherRoot } from '../../src/manager/host-reach.ts'
import { holderOf, isShared, shareMountRoot, unshareMountRoot } from '../../src/manager/mount-root.ts'
import { formatChecks, runPreflight, worstVerdict, type Check } from '../../src/manager/preflight.ts'
import { ErrnoError } from '../../src/base/index.ts'
import { drivers } from '../mount/support.ts'
import { assertErrno, withFolder } from '../support.ts'
import { silent, withManagers } from './support.ts'

const noNative = drivers.find(({ driver }) => driver === 'fuse-native')?.skip ?? false

const mountsAt = (path: string): number => listMounts().filter(({ mountpoint }) => mountpoint === path).length

test('the mount root is made shared once, and a stop takes away what the start made', () =>
  withFolder((folder) => {
    const root = join(folder, 'a/mnt')
    const sharing = shareMountRoot(root)
    try {
      assert.ok(isShared(holderOf(root)))
      assert.equal(shareMountRoot(root), 'nothing')
      assert.equal(shareMountRoot(join(root, 'below')), 'nothing')
      assert.ok(mountsAt(root) <= 1)
      execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', join(root, 'below')])
      unshareMountRoot(root, 'bind') // something is mounted in it
      assert.ok(isShared(holderOf(root)))
      execFileSync('umount', [join(root, 'below')])
    } finally {
      unshareMountRoot(root, sharing)
    }
    assert.equal(mountsAt(root), 0)
  }))

test('a mount root behind a symbolic link is refused with its real place', () =>
  withFolder((folder) => {
    mkdirSync(join(folder, 'real'))
    symlinkSync('real', join(folder, 'link'))
    assert.match(assertErrno('EINVAL', () => shareMountRoot(join(folder, 'link'))).message, /real/)
  }))

/** Runs `work` with a folder that is a shared mount with no other in its group: what a container has that no host listens to. */
const withShared = (work: (root: string, folder: string) => Promise<void>): Promise<void> =>
  withFolder(async (folder) => {
    const root = join(folder, 'mnt')
    mkdirSync(root)
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', root])
    try {
      execFileSync('mount', ['--make-private', root])
      execFileSync('mount', ['--make-shared', root])
      await work(root, folder)
    } finally {
      execFileSync('umount', ['-R', '-l', root])
    }
  })

test('a test mount tells whether mounts reach anybody else, and is gone afterwards on both sides', () =>
  withShared(async (root, folder) => {
    const [peer, roots] = [join(folder, 'peer'), { mountRoot: root, hostMountRoot: '/host/mnt', dataRoot: folder }]
    const below = (): string[] => listMounts().map(({ mountpoint }) => mountpoint).filter((path) => path.startsWith(`${folder}/`)) // prettier-ignore
    assertShared(roots)
    await assert.rejects(assertReachesHost(roots, silent), (error: ErrnoError) => {
      assert.match(error.message, /reached nobody/)
      assert.match(error.hint ?? '', /mount --make-rshared \/host\/mnt/)
      return error.code === 'ENOTCONN'
    })
    assert.deepEqual([below(), readdirSync(root)], [[root], []])
    mkdirSync(peer)
    execFileSync('mount', ['--bind', root, peer])
    try {
      leaveTestMount(join(root, '.preflight'), folder)
      await assertReachesHost(roots, silent)
      assert.deepEqual([below(), readdirSync(root)], [[root, peer], []])
    } finally {
      execFileSync('umount', [peer])
    }
  }))

/** What a start leaves that is killed during its test mount: a mount that nobody serves. */
function leaveTestMount(mountpoint: string, dataRoot: string): void {
  mkdirSync(mountpoint)
  const fd = openFuseDevice()
  mountFuse(fd, { source: join(dataRoot, 'preflight'), mountpoint, readOnly: true })
  closeSync(fd)
}

test('a mount root that is not shared is refused with the flag of a container, and so is one where nothing is bound', () =>
  withShared(async (root, folder) => {
    const roots = { mountRoot: root, hostMountRoot: '/host/mnt', dataRoot: folder }
    execFileSync('mount', ['--make-private', root])
    assert.match(assertErrno('EINVAL', () => assertShared(roots)).hint ?? '', new RegExp(`-v /host/mnt:${root}:rshared$`)) // prettier-ignore
  }))

test('the folder that is bound at the mount root is compared with the one that is named', () =>
  withShared(async (root, folder) => {
    const [bound, place] = [join(root, 'a/b'), join(folder, 'place')]
    for (const path of [bound, place]) mkdirSync(path, { recursive: true })
    execFileSync('mount', ['--bind', bound, place])
    try {
      const find = (hostMountRoot: string): string | undefined => findOtherRoot({ mountRoot: place, hostMountRoot, dataRoot: folder })
      assert.equal(find('/host/a/b'), undefined)
      assert.equal(find('/b'), undefined)
      assert.equal(find('/host/mnt'), '/a/b')
    } finally {
      execFileSync('umount', [place])
    }
  }))

test('a healthy machine passes, and leftovers of an earlier run are cleared', () =>
  withManagers(async ({ options }) => {
    const id = '01940000-0000-7000-8000-000000000001'
    mkdirSync(join(options.mountRoot, id))
    mkdirSync(join(options.mountRoot, 'not-ours'))
    const { checks, sharing } = await runPreflight(options, () => 3, silent)
    try {
      assert.notEqual(worstVerdict(checks), 'fail', formatChecks(checks))
      assert.deepEqual(checks.map(({ name }) => name), ['node version', 'CAP_SYS_ADMIN', '/dev/fuse', 'kernel', 'data root', 'store', 'disk space', 'mount root', 'stale mounts', 'dirty limit']) // prettier-ignore
      assert.deepEqual(readdirSync(options.mountRoot), ['not-ours'])
      assert.deepEqual(readdirSync(options.dataRoot), [])
    } finally {
      unshareMountRoot(options.mountRoot, sharing)
    }
  }))

test('what fails is a verdict with reason and cure, and a store of another manager leaves its mounts alone', () =>
  withManagers(async ({ options }) => {
    const id = '01940000-0000-7000-8000-000000000001'
    mkdirSync(join(options.mountRoot, id))
    writeFileSync(options.dataRoot, 'a file, no folder')
    const refuse = (): number => {
      throw new ErrnoError('EBUSY', 'held', { hint: 'stop the other' })
    }
    const { checks, sharing } = await runPreflight(options, refuse, silent)
    unshareMountRoot(options.mountRoot, sharing)
    const failed = checks.filter(({ verdict }) => verdict === 'fail')
    assert.deepEqual(failed.map(({ name }) => name), ['data root', 'store', 'disk space'].filter((name) => failed.some((check) => check.name === name))) // prettier-ignore
    assert.partialDeepStrictEqual(
      failed.find(({ name }) => name === 'store'),
      { reason: 'held', cure: 'stop the other' },
    )
    for (const { cure } of failed) assert.notEqual(cure, '')
    assert.deepEqual(readdirSync(options.mountRoot), [id])
    assert.equal(worstVerdict(checks), 'fail')
  }))

test('the table has a line for each check and the cure below', () => {
  const checks: Check[] = [
    { name: 'a', verdict: 'ok', reason: 'good', cure: '' },
    { name: 'longer', verdict: 'warn', reason: 'so so', cure: 'do this' },
  ]
  assert.equal(formatChecks(checks), 'ok    a       good\nwarn  longer  so so\n              do this\n')
  assert.equal(worstVerdict(checks), 'warn')
})

test('the package of the driver is looked at where fuse-native is configured', { skip: noNative }, () =>
  withManagers(
    async ({ options }) => {
      const { checks, sharing } = await runPreflight(options, () => 0, silent)
      unshareMountRoot(options.mountRoot, sharing)
      const check = checks.find(({ name }) => name === 'fuse-native')
      assert.deepEqual(check, { name: 'fuse-native', verdict: 'ok', reason: 'can be loaded', cure: '' })
    },
    { driver: 'fuse-native' },
  ),
)
