/**
 * Read-only mounts: every change is EROFS, everything else works, and not a byte of the file changes.
 * Leaves: remount by mount(8) and its helper to test/cli/mount-helper.test.ts.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Owner, createVolumeFile } from '../../src/engine/index.ts'
import { assertClean, withFolder } from '../support.ts'
import { TestMount, mountFile, shell } from './support.ts'

/** Prints each change with the name of the error it ends with; then what reading finds. */
const attempts = `
import errno, os, sys
os.chdir(sys.argv[1])
attempts = {
  'create': lambda: os.open('new', os.O_CREAT | os.O_WRONLY),
  'open to write': lambda: os.open('file', os.O_WRONLY),
  'open to read and write': lambda: os.open('file', os.O_RDWR),
  'open to append': lambda: os.open('file', os.O_WRONLY | os.O_APPEND),
  'open to truncate': lambda: os.open('file', os.O_RDONLY | os.O_TRUNC),
  'open without a name': lambda: os.open('.', os.O_TMPFILE | os.O_RDWR),
  'truncate': lambda: os.truncate('file', 0),
  'mkdir': lambda: os.mkdir('new'),
  'mkfifo': lambda: os.mkfifo('new'),
  'mknod': lambda: os.mknod('new'),
  'symlink': lambda: os.symlink('file', 'new'),
  'link': lambda: os.link('file', 'new'),
  'rename': lambda: os.rename('file', 'new'),
  'unlink': lambda: os.unlink('file'),
  'rmdir': lambda: os.rmdir('empty'),
  'chmod': lambda: os.chmod('file', 0o600),
  'chown': lambda: os.chown('file', 1, 1),
  'lchown': lambda: os.lchown('symlink', 1, 1),
  'utimes': lambda: os.utime('file'),
  'utimes of the root': lambda: os.utime('.', (0, 0)),
  'setxattr': lambda: os.setxattr('file', 'user.new', b'x'),
  'removexattr': lambda: os.removexattr('file', 'user.old'),
}
for name, attempt in attempts.items():
  try: attempt(); print(name, 'done')
  except OSError as error: print(name, errno.errorcode[error.errno])
print(open('file').read(), sorted(os.listdir()), os.readlink('symlink'), os.getxattr('file', 'user.old').decode(),
  open('file').read(), os.access('file', os.W_OK), bool(os.statvfs('.').f_flag & os.ST_RDONLY))
`

const sha256 = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex')

/** Runs the attempts in another process; returns its lines. */
async function attempt(mountpoint: string): Promise<string[]> {
  return (await shell('python3 -c "$2" "$1"', mountpoint, attempts)).trimEnd().split('\n')
}

function assertRefused(lines: readonly string[]): void {
  assert.ok(lines.length > 20)
  for (const line of lines.slice(0, -1)) assert.match(line, /EROFS$/)
  assert.equal(lines.at(-1), "content ['empty', 'file', 'symlink'] file value content False True")
}

/** Runs `work` with a volume file that has something in it, and a directory to mount it on; afterwards it must be clean. */
async function withFilledVolume(work: (file: string, mountpoint: string, folder: string) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    const [file, mountpoint] = [join(folder, 'data', 'v.sqlite'), join(folder, 'mount')]
    mkdirSync(join(folder, 'data'))
    mkdirSync(mountpoint)
    createVolumeFile(file)
    const mount = await mountFile(file, mountpoint)
    await shell('cd "$1"; printf content > file; mkdir empty; ln -s file symlink; setfattr -n user.old -v value file', mountpoint)
    await mount.stop()
    try {
      await work(file, mountpoint, folder)
    } finally {
      spawnSync('umount', ['-l', '-c', mountpoint], { stdio: 'ignore' }) // after a failure: its process ends then
    }
    assertClean(file)
  })
}

test('on a read-only mount every change is EROFS, reading works, and no byte of the file and no change token moves', () =>
  withFilledVolume(async (file, mountpoint) => {
    const before = sha256(file)
    const mount = await mountFile(file, mountpoint, { readOnly: true })
    const { change, bytesTag } = await mount.call('state', {})
    assertRefused(await attempt(mountpoint))
    const after = await mount.call('state', {})
    assert.deepEqual([after.change, after.bytesTag], [change, bytesTag])
    await mount.stop()
    assert.equal(sha256(file), before)
  }))

test('what was mounted read-only is writable after remount,rw, and after remount,ro every change is EROFS again', () =>
  withFilledVolume(async (file, mountpoint) => {
    const mount = await mountFile(file, mountpoint, { readOnly: true, mountOptions: ['nodev'] })
    await shell('mount -i -o remount,rw "$1"; echo new > "$1/new"; cat "$1/new"; rm "$1/new"', mountpoint)
    await shell('mount -i -o remount,ro "$1"', mountpoint)
    assertRefused(await attempt(mountpoint))
    assert.equal(await shell('findmnt -n -o VFS-OPTIONS "$1"', mountpoint), 'ro,nodev,relatime\n')
    await mount.stop()
  }))

test('a volume on a read-only filesystem is not mounted, not even read-only: the error says why and what to do', () =>
  withFilledVolume(async (file, mountpoint, folder) => {
    const data = join(folder, 'data')
    await shell('mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"', data)
    try {
      const mount = new TestMount(file, mountpoint, { readOnly: true, logLevel: 'silent' })
      const { error } = await mount.event('failed')
      assert.deepEqual(error, {
        code: 'EROFS',
        message: `volume file ${file}: lies on a read-only filesystem`,
        problem: 'read_only',
        hint: 'SQLite writes beside the file even to read it: copy it to where it can be written',
      })
      assert.equal(await mount.ended(), 1)
    } finally {
      spawnSync('umount', [data])
    }
    assert.equal(await shell('ls "$1"', data), 'v.sqlite\n')
  }))

test('an owner that has not yet noticed that its mount is gone is waited for, however long it takes', () =>
  withFilledVolume(async (file, _, folder) => {
    const other = join(folder, 'a mountpoint of its own')
    mkdirSync(other)
    const first = await mountFile(file, other)
    process.kill(first.pid, 'SIGSTOP')
    let waiting: Promise<Owner>
    try {
      await shell('umount -i -c "$1"', other)
      waiting = Owner.acquire(file, 60_000)
      await assert.rejects(Owner.acquire(file, 500), new RegExp(`held by process ${String(first.pid)} `))
    } finally {
      process.kill(first.pid, 'SIGCONT')
    }
    const owner = await waiting
    assert.equal(await first.ended(), 0)
    owner.release()
  }))
