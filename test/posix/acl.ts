/** POSIX table: access control lists, acl(5), set and shown by setfacl(1) and getfacl(1). */
import assert from 'node:assert/strict'
import { O_RDONLY, O_RDWR, O_TMPFILE, O_WRONLY, S_IFREG } from './linux.ts'
import { alice, bob, type Cases } from './place.ts'
import { assertErrno, type Process } from './process.ts'

/** Runs setfacl, which must succeed. */
async function setAcl(process: Process, ...args: string[]): Promise<void> {
  const { status, err } = await process.exec('setfacl', ...args)
  assert.equal(status, 0, err)
}

/** The entries of a list, in the order of acl(5), without effective rights. */
async function aclOf(process: Process, path: string, kind: '--access' | '--default' = '--access'): Promise<string[]> {
  const { status, out, err } = await process.exec('getfacl', '--omit-header', '--no-effective', '--numeric', '--absolute-names', kind, path)
  assert.equal(status, 0, err)
  return out.split('\n').filter((line) => line !== '')
}

const modeOf = async (process: Process, path: string): Promise<number> => (await process.stat(path)).mode & 0o7777

const accessName = 'system.posix_acl_access'

export const acl: Cases = {
  'an entry for a user or a group is evaluated': async ({ root, start }) => {
    await root.put('f', 'content')
    await root.chmod('f', 0o600)
    const [user, member, other] = [start(alice), start({ uid: 1003, gid: 1003, groups: [1009] }), start(bob)]
    await assertErrno('EACCES', user.open('f', O_RDONLY))
    await setAcl(root, '-m', 'u:1001:rw,g:1009:r', 'f')
    await user.close(await user.open('f', O_RDWR))
    assert.equal(await member.get('f'), 'content')
    await assertErrno('EACCES', member.open('f', O_WRONLY))
    await assertErrno('EACCES', other.open('f', O_RDONLY))
    await setAcl(root, '-m', 'u:1001:-', 'f')
    await assertErrno('EACCES', user.open('f', O_RDONLY))
    await setAcl(root, '-x', 'g:1009', 'f')
    await assertErrno('EACCES', member.open('f', O_RDONLY))
  },

  'an entry can take away what others have': async ({ root, start }) => {
    await root.put('f', 'content')
    await root.chmod('f', 0o644)
    await setAcl(root, '-m', 'u:1001:-', 'f')
    await assertErrno('EACCES', start(alice).open('f', O_RDONLY))
    assert.equal(await start(bob).get('f'), 'content')
  },

  'the mask limits users and groups, shows as the group bits, and is what chmod sets': async ({ root, start }) => {
    await root.put('f', 'content')
    await setAcl(root, '-m', 'u:1001:rw,m::r', 'f')
    assert.deepEqual(await aclOf(root, 'f'), ['user::rw-', 'user:1001:rw-', 'group::r--', 'mask::r--', 'other::r--'])
    assert.equal(await modeOf(root, 'f'), 0o644)
    const user = start(alice)
    await assertErrno('EACCES', user.open('f', O_WRONLY))
    await root.chmod('f', 0o660)
    assert.deepEqual(await aclOf(root, 'f'), ['user::rw-', 'user:1001:rw-', 'group::r--', 'mask::rw-', 'other::---'])
    await user.close(await user.open('f', O_WRONLY))
    await root.chmod('f', 0o600)
    await assertErrno('EACCES', user.open('f', O_RDONLY))
  },

  'a list sets the mode, and one that says no more than the mode is not kept': async ({ root }) => {
    await root.put('f', '')
    await setAcl(root, '--set', 'u::rwx,g::rx,o::x', 'f')
    assert.equal(await modeOf(root, 'f'), 0o751)
    assert.deepEqual(await root.listxattr('f'), [])
    await setAcl(root, '-m', 'u:1001:r', 'f')
    assert.deepEqual(await root.listxattr('f'), [accessName])
    assert.equal(await modeOf(root, 'f'), 0o751)
    await setAcl(root, '-b', 'f')
    assert.deepEqual(await root.listxattr('f'), [])
    await assertErrno('ENODATA', root.getxattr('f', accessName))
    assert.equal(await modeOf(root, 'f'), 0o751)
  },

  'a default list is handed down: to files as their list, to directories as both': async ({ root }) => {
    await root.mkdir('d')
    await setAcl(root, '-d', '-m', 'u::rwx,u:1001:rwx,g::rx,o::-', 'd')
    await root.open('d/f', 0o102, 0o666)
    await root.mkdir('d/e', 0o777)
    await root.mkfifo('d/p', 0o666)
    const wanted = ['user::rwx', 'user:1001:rwx', 'group::r-x', 'mask::rwx', 'other::---']
    assert.deepEqual(await aclOf(root, 'd', '--default'), wanted)
    assert.deepEqual(await aclOf(root, 'd/e', '--default'), wanted)
    assert.deepEqual(await aclOf(root, 'd/e'), wanted)
    for (const name of ['d/f', 'd/p']) {
      assert.deepEqual(await aclOf(root, name), ['user::rw-', 'user:1001:rwx', 'group::r-x', 'mask::rw-', 'other::---'])
      assert.deepEqual(await aclOf(root, name, '--default'), [])
    }
    await root.mkdir('d/e/deeper')
    assert.deepEqual(await aclOf(root, 'd/e/deeper', '--default'), wanted)
  },

  'with a default list the umask does not count, without it does': async ({ root, start }) => {
    await root.mkdir('with')
    await root.mkdir('without')
    await setAcl(root, '-d', '-m', 'g::rwx,o::rwx', 'with')
    const process = start({ umask: 0o077 })
    for (const [folder, file, directory] of [
      ['with', 0o666, 0o777],
      ['without', 0o600, 0o700],
    ] as const) {
      await process.put(`${folder}/f`, '')
      await process.mkdir(`${folder}/d`, 0o777)
      await process.mknod(`${folder}/m`, S_IFREG | 0o666)
      await process.linkFd(await process.open(folder, O_TMPFILE | O_RDWR, 0o666), `${folder}/t`)
      const modes = await Promise.all(['f', 'd', 'm', 't'].map((name) => modeOf(root, `${folder}/${name}`)))
      assert.deepEqual(modes, [file, directory, file, file], folder)
    }
    // The mode that open(2) asks for still limits.
    await process.close(await process.open('with/limited', 0o101, 0o640))
    assert.equal(await modeOf(root, 'with/limited'), 0o640)
  },

  'a default list without further users makes no list for files': async ({ root }) => {
    await root.mkdir('d')
    await setAcl(root, '-d', '-m', 'g::r,o::-', 'd')
    await root.put('d/f', '')
    assert.equal(await modeOf(root, 'd/f'), 0o640)
    assert.deepEqual(await root.listxattr('d/f'), [])
  },

  'lists are set by the owner only, default ones on directories only': async ({ root, start }) => {
    await root.put('f', '')
    await root.mkdir('d')
    await root.chown('f', 1001, 1001)
    await setAcl(start(alice), '-m', 'u:1002:r', 'f')
    const { status, err } = await start(bob).exec('setfacl', '-m', 'u:1002:rw', 'f')
    assert.deepEqual([status, /Operation not permitted/.test(err)], [1, true], err)
    await setAcl(root, '-d', '-m', 'u:1001:r', 'd')
    const list = await root.getxattr('d', 'system.posix_acl_default')
    await assertErrno('EACCES', root.setxattr('f', 'system.posix_acl_default', list))
    await root.removexattr('d', 'system.posix_acl_default')
    assert.deepEqual(await aclOf(root, 'd', '--default'), [])
  },

  'bytes that are no list are refused': async ({ root }) => {
    await root.put('f', '')
    for (const value of ['x', '\x02\0\0\0x', '\x03\0\0\0'])
      await assertErrno(value[0] === '\x03' ? 'EOPNOTSUPP' : 'EINVAL', root.setxattr('f', accessName, value))
    await assertErrno('ENODATA', root.getxattr('f', accessName))
  },

  'setfacl by an owner who is not in the group clears setgid': async ({ root, start }) => {
    for (const [name, groups, mode] of [
      ['stranger', [], 0o755],
      ['member', [1005], 0o2755],
    ] as const) {
      await root.put(name, '')
      await root.chown(name, 1001, 1005)
      await root.chmod(name, 0o2755)
      await setAcl(start({ ...alice, groups }), '-m', 'u:1002:rx', name)
      assert.equal(await modeOf(root, name), mode, name)
    }
  },

  'a list belongs to the inode: it stays through rename and link, and reads the same after the caches are dropped': async ({
    root,
    start,
  }) => {
    await root.put('f', 'content')
    await root.chmod('f', 0o600)
    await setAcl(root, '-m', 'u:1001:r', 'f')
    await root.link('f', 'g')
    await root.rename('f', 'h')
    const before = await aclOf(root, 'g')
    await root.put('/proc/sys/vm/drop_caches', '2\n')
    assert.deepEqual(await aclOf(root, 'h'), before)
    assert.equal(await start(alice).get('h'), 'content')
    await assertErrno('EACCES', start(bob).get('h'))
  },

  'cp -a and a chown keep the list': async ({ root }) => {
    await root.put('f', '')
    await setAcl(root, '-m', 'u:1001:rw', 'f')
    await root.chown('f', 1005, 1005)
    assert.equal((await root.exec('cp', '-a', 'f', 'copy')).err, '')
    assert.deepEqual(await aclOf(root, 'copy'), await aclOf(root, 'f'))
    assert.equal((await aclOf(root, 'f')).length, 5)
  },
}
