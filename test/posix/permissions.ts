/** POSIX table: permissions as the kernel checks them (default_permissions), and the mode bits that go with writes and owners. */
import assert from 'node:assert/strict'
import {
  FALLOC_FL_KEEP_SIZE,
  O_DIRECT,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE,
  O_TRUNC,
  O_WRONLY,
  R_OK,
  S_IFREG,
  UTIME_NOW,
  W_OK,
  X_OK,
} from './linux.ts'
import { alice, bob, type Cases } from './place.ts'
import { assertErrno, type Process } from './process.ts'

/** A file of alice, mode as given. */
async function fileOfAlice(root: Process, name: string, mode: number, group = 1001): Promise<void> {
  await root.put(name, 'content')
  await root.chown(name, 1001, group)
  await root.chmod(name, mode)
}

const modeOf = async (process: Process, name: string): Promise<number> => (await process.stat(name)).mode & 0o7777

/** struct vfs_cap_data of linux/capability.h, revision 2: CAP_CHOWN. */
const capability = Buffer.from('0100000201000000000000000000000000000000', 'hex').toString('latin1')

export const permissions: Cases = {
  'a file is read and written by whom its mode lets: owner, group, others': async ({ root, start }) => {
    const member = start({ uid: 1003, gid: 1003, groups: [1001] })
    const [owner, other] = [start(alice), start(bob)]
    await fileOfAlice(root, 'f', 0o640)
    assert.equal(await owner.get('f'), 'content')
    assert.equal(await member.get('f'), 'content')
    await assertErrno('EACCES', member.open('f', O_WRONLY))
    await assertErrno('EACCES', other.open('f', O_RDONLY))
    await assertErrno('EACCES', other.truncate('f', 0))
    await root.chmod('f', 0o046)
    await assertErrno('EACCES', owner.open('f', O_RDONLY))
    await member.close(await member.open('f', O_RDONLY))
    await other.close(await other.open('f', O_RDWR))
    await root.close(await root.open('f', O_RDWR))
  },

  'access answers by mode, for root too where nobody may execute': async ({ root, start }) => {
    const owner = start(alice)
    await fileOfAlice(root, 'f', 0o400)
    assert.deepEqual([await owner.access('f', R_OK), await owner.access('f', W_OK), await owner.access('f', X_OK)], [true, false, false])
    assert.deepEqual([await root.access('f', R_OK | W_OK), await root.access('f', X_OK)], [true, false])
    await assertErrno('EACCES', root.exec('./f'))
  },

  'a directory needs w and x for its names, r for its list': async ({ root, start }) => {
    const user = start(alice)
    await root.mkdir('d')
    await fileOfAlice(root, 'd/f', 0o644)
    await root.chmod('d', 0o711)
    assert.equal(await user.get('d/f'), 'content')
    await assertErrno('EACCES', user.listdir('d'))
    await assertErrno('EACCES', user.put('d/new', ''))
    await assertErrno('EACCES', user.unlink('d/f'))
    await assertErrno('EACCES', user.rename('d/f', 'd/g'))
    await assertErrno('EACCES', user.link('d/f', 'd/g'))
    await root.chmod('d', 0o744)
    await assertErrno('EACCES', user.stat('d/f'))
    assert.deepEqual(await user.listdir('d'), ['f'])
    await root.chmod('d', 0o777)
    await user.unlink('d/f')
  },

  'in a sticky directory an entry is removed and renamed by its owner only': async ({ root, start }) => {
    const [owner, other] = [start(alice), start(bob)]
    await root.mkdir('tmp')
    await root.chmod('tmp', 0o1777)
    assert.equal(await modeOf(root, 'tmp'), 0o1777)
    await owner.put('tmp/a', '')
    await owner.mkdir('tmp/d')
    await other.put('tmp/b', '')
    await assertErrno('EPERM', other.unlink('tmp/a'))
    await assertErrno('EPERM', other.rmdir('tmp/d'))
    await assertErrno('EPERM', other.rename('tmp/a', 'tmp/c'))
    await assertErrno('EPERM', other.rename('tmp/b', 'tmp/a'))
    await owner.rename('tmp/a', 'tmp/c')
    await owner.unlink('tmp/c')
    await root.chown('tmp', 1002, 1002)
    await other.rmdir('tmp/d')
  },

  'mode, owner, group and times are changed by the owner, the owner by root only': async ({ root, start }) => {
    const owner = start({ ...alice, groups: [1005] })
    const other = start(bob)
    await fileOfAlice(root, 'f', 0o666)
    await assertErrno('EPERM', other.chmod('f', 0o600))
    await assertErrno('EPERM', other.chown('f', 1002, -1))
    await assertErrno('EPERM', other.utimensat('f', [1, 0], [1, 0]))
    await other.utimensat('f', [0, UTIME_NOW], [0, UTIME_NOW])
    await root.chmod('f', 0o644)
    await assertErrno('EACCES', other.utimensat('f', [0, UTIME_NOW], [0, UTIME_NOW]))
    await assertErrno('EPERM', owner.chown('f', 1002, -1))
    await assertErrno('EPERM', owner.chown('f', -1, 1006))
    await owner.chown('f', -1, 1005)
    await owner.utimensat('f', [1, 0], [1, 0])
    assert.equal((await root.stat('f')).gid, 1005)
  },

  'umask takes bits from every new inode but a symlink': async ({ start }) => {
    const process = start({ umask: 0o027 })
    await process.put('f', '')
    await process.mkdir('d', 0o777)
    await process.mkfifo('p', 0o666)
    await process.mknod('m', S_IFREG | 0o666)
    await process.symlink('x', 'l')
    await process.linkFd(await process.open('.', O_TMPFILE | O_RDWR, 0o666), 't')
    assert.deepEqual(
      await Promise.all(['f', 'd', 'p', 'm', 't', 'l'].map(async (name) => (await process.lstat(name)).mode & 0o7777)),
      [0o640, 0o750, 0o640, 0o640, 0o640, 0o777],
    )
  },

  'a new inode belongs to who makes it': async ({ root, start }) => {
    await root.chmod('.', 0o777)
    const user = start({ ...alice, gid: 1007 })
    await user.put('f', '')
    await user.mkdir('d')
    await user.symlink('x', 'l')
    await user.mkfifo('p')
    for (const name of ['f', 'd', 'l', 'p']) {
      const { uid, gid } = await root.lstat(name)
      assert.deepEqual([uid, gid], [1001, 1007], name)
    }
  },

  'a setgid directory hands its group down, and to directories the bit': async ({ root, start }) => {
    await root.mkdir('shared')
    await root.chown('shared', 0, 1005)
    await root.chmod('shared', 0o2777)
    const user = start({ ...alice, groups: [1005] })
    await user.put('shared/f', '')
    await user.mkdir('shared/d')
    await user.mkdir('shared/d/e')
    await user.symlink('x', 'shared/l')
    for (const name of ['f', 'd', 'd/e', 'l']) assert.equal((await root.lstat(`shared/${name}`)).gid, 1005, name)
    assert.deepEqual([await modeOf(root, 'shared/f'), await modeOf(root, 'shared/d/e')], [0o644, 0o2755])
  },

  'who is not in the group of a setgid directory makes no setgid file there': async ({ root, start }) => {
    await root.mkdir('shared')
    await root.chown('shared', 0, 1005)
    await root.chmod('shared', 0o2777)
    const [member, stranger] = [start({ ...alice, groups: [1005], umask: 0 }), start({ ...bob, umask: 0 })]
    await member.mknod('shared/m', S_IFREG | 0o2775)
    await stranger.mknod('shared/s', S_IFREG | 0o2775)
    assert.deepEqual([await modeOf(root, 'shared/m'), await modeOf(root, 'shared/s')], [0o2775, 0o775])
  },

  'chmod by the owner who is not in the group drops setgid': async ({ root, start }) => {
    await fileOfAlice(root, 'f', 0o644, 1005)
    const owner = start(alice)
    await owner.chmod('f', 0o2755)
    assert.equal(await modeOf(root, 'f'), 0o755)
    await root.chmod('f', 0o2755)
    assert.equal(await modeOf(root, 'f'), 0o2755)
  },

  'a write by others than root clears setuid, and setgid of an executable': async ({ root, start }) => {
    const user = start(alice)
    for (const [mode, left] of [
      [0o6777, 0o777],
      [0o4666, 0o666],
      [0o2777, 0o777],
      [0o2767, 0o2767],
    ] as const) {
      const name = mode.toString(8)
      await fileOfAlice(root, name, mode)
      const fd = await user.open(name, O_WRONLY)
      await user.write(fd, 'x')
      assert.equal(await modeOf(user, name), left, `${name} at once`)
      await user.close(fd)
      assert.equal(await modeOf(root, name), left, name)
    }
    await fileOfAlice(root, 'kept', 0o6777)
    await root.write(await root.open('kept', O_WRONLY), 'x')
    assert.equal(await modeOf(root, 'kept'), 0o6777)
  },

  'a truncation by others than root clears setuid and setgid': async ({ root, start }) => {
    const user = start(alice)
    for (const [index, truncate] of [
      (name: string) => user.truncate(name, 3),
      async (name: string) => user.ftruncate(await user.open(name, O_WRONLY), 100),
      (name: string) => user.open(name, O_WRONLY | O_TRUNC),
    ].entries()) {
      const name = `f${String(index)}`
      await fileOfAlice(root, name, 0o6777)
      await truncate(name)
      assert.equal(await modeOf(root, name), 0o777, name)
    }
    await fileOfAlice(root, 'kept', 0o6777)
    await root.truncate('kept', 0)
    assert.equal(await modeOf(root, 'kept'), 0o6777)
  },

  'a fallocate by others than root clears setuid and setgid': async ({ root, start }) => {
    const user = start(alice)
    for (const mode of [0, FALLOC_FL_KEEP_SIZE]) {
      const name = `f${String(mode)}`
      await fileOfAlice(root, name, 0o6777)
      await user.fallocate(await user.open(name, O_WRONLY), mode, 0, 100_000)
      assert.equal(await modeOf(root, name), 0o777, name)
    }
  },

  'a setuid program that somebody else has written runs as who starts it, however it was written': async ({ root, start }) => {
    const user = start(alice)
    const program = await user.get('/usr/bin/id')
    await root.exec('cp', '/usr/bin/id', 'source')
    const source = await user.open('source', O_RDONLY)
    for (const [name, write] of Object.entries({
      write: (fd: number) => user.write(fd, program),
      'write to the disk': (fd: number) => user.pwriteDirect(fd, program.slice(0, 4096), 0),
      copy: (fd: number) => user.copyFileRange(source, fd, program.length, 0, 0),
      fallocate: (fd: number) => user.fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, program.length),
    })) {
      await root.exec('cp', '/usr/bin/id', name)
      await root.chown(name, 1002, 1006)
      await root.chmod(name, 0o6777)
      assert.equal((await user.exec(`./${name}`, '-u')).out, '1002\n', name)
      const fd = await user.open(name, name === 'write to the disk' ? O_RDWR | O_DIRECT : O_RDWR)
      await write(fd)
      await user.close(fd)
      assert.equal((await user.exec(`./${name}`, '-u')).out, '1001\n', name)
      assert.equal((await user.exec(`./${name}`, '-g')).out, '1001\n', name)
      assert.equal(await modeOf(root, name), 0o777, name)
    }
  },

  'a chown of a file clears setuid and setgid, of a directory neither': async ({ root, start }) => {
    const owner = start({ ...alice, groups: [1005] })
    await fileOfAlice(root, 'f', 0o6755)
    await owner.chown('f', -1, 1005)
    assert.equal(await modeOf(root, 'f'), 0o755)
    await root.chmod('f', 0o6755)
    await root.chown('f', 1002, 1002)
    assert.equal(await modeOf(root, 'f'), 0o755)
    await root.mkdir('d')
    await root.chmod('d', 0o6755)
    await root.chown('d', 1002, 1002)
    assert.equal(await modeOf(root, 'd'), 0o6755)
  },

  'a setuid program runs as its owner, a setgid one as its group': async ({ root, start }) => {
    await root.exec('cp', '/usr/bin/id', 'id')
    await root.chown('id', 1002, 1006)
    await root.chmod('id', 0o6755)
    const user = start(alice)
    assert.equal((await user.exec('./id', '-u')).out, '1002\n')
    assert.equal((await user.exec('./id', '-g')).out, '1006\n')
    assert.equal((await user.exec('./id', '-ru')).out, '1001\n')
  },

  'file capabilities go with a write, a truncation and a chown, root’s too': async ({ root, start }) => {
    const user = start(alice)
    for (const [name, change] of Object.entries({
      write: async () => root.close(await written(root)),
      'write by a user': async () => user.close(await written(user)),
      truncate: () => root.truncate('f', 1),
      'truncate by a user': () => user.truncate('f', 1),
      chown: () => root.chown('f', 1001, 1001),
    })) {
      await fileOfAlice(root, 'f', 0o777)
      await root.setxattr('f', 'security.capability', capability)
      await change()
      await assertErrno('ENODATA', root.getxattr('f', 'security.capability')).catch((error: unknown) => {
        throw new Error(`${name} left them`, { cause: error })
      })
    }
  },

  'file capabilities stay through chmod, rename, utimens and link': async ({ root }) => {
    await root.put('f', '')
    await root.setxattr('f', 'security.capability', capability)
    await root.chmod('f', 0o755)
    await root.utimensat('f', [1, 0], [1, 0])
    await root.link('f', 'g')
    await root.rename('f', 'h')
    assert.equal(await root.getxattr('h', 'security.capability'), capability)
  },
}

/** A descriptor of `f` that something was written through. */
async function written(process: Process): Promise<number> {
  const fd = await process.open('f', O_WRONLY)
  await process.write(fd, 'x')
  return fd
}
