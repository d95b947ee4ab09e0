/** POSIX table: extended attributes, xattr(7). */
import assert from 'node:assert/strict'
import { S_IFCHR, XATTR_CREATE, XATTR_REPLACE } from './linux.ts'
import { alice, type Cases } from './place.ts'
import { assertErrno, hasErrno } from './process.ts'
import { assertMoves } from './time.ts'

export const xattrs: Cases = {
  'user, trusted and security attributes are set, read, listed and removed': async ({ root }) => {
    await root.put('f', '')
    await root.mkdir('d')
    for (const path of ['f', 'd']) {
      for (const name of ['security.litevol', 'trusted.name', 'user.name']) {
        await root.setxattr(path, name, `value of ${name}\0\xff`)
        assert.equal(await root.getxattr(path, name), `value of ${name}\0\xff`)
      }
      assert.deepEqual(await root.listxattr(path), ['security.litevol', 'trusted.name', 'user.name'])
      await root.setxattr(path, 'user.name', 'other')
      assert.equal(await root.getxattr(path, 'user.name'), 'other')
      await root.removexattr(path, 'user.name')
      await assertErrno('ENODATA', root.getxattr(path, 'user.name'))
      await assertErrno('ENODATA', root.removexattr(path, 'user.name'))
      assert.deepEqual(await root.listxattr(path), ['security.litevol', 'trusted.name'])
    }
  },

  'XATTR_CREATE makes only a new one, XATTR_REPLACE changes only an old one': async ({ root }) => {
    await root.put('f', '')
    await assertErrno('ENODATA', root.setxattr('f', 'user.a', '1', XATTR_REPLACE))
    await root.setxattr('f', 'user.a', '1', XATTR_CREATE)
    await assertErrno('EEXIST', root.setxattr('f', 'user.a', '2', XATTR_CREATE))
    await root.setxattr('f', 'user.a', '3', XATTR_REPLACE)
    assert.equal(await root.getxattr('f', 'user.a'), '3')
    await assertErrno('EINVAL', root.setxattr('f', 'user.a', '1', 4))
  },

  'a value may be empty, and a name has at most 255 bytes': async ({ root }) => {
    await root.put('f', '')
    const longest = `user.${'n'.repeat(250)}`
    await root.setxattr('f', longest, '')
    assert.equal(await root.getxattr('f', longest), '')
    assert.deepEqual(await root.listxattr('f'), [longest])
    await assertErrno('ERANGE', root.setxattr('f', `${longest}n`, ''))
  },

  'a value of 64 KiB is kept, a longer one is E2BIG': async ({ root }) => {
    await root.put('f', '')
    const value = 'v'.repeat(65_536)
    await root.setxattr('f', 'user.large', value)
    assert.equal(await root.getxattr('f', 'user.large'), value)
    await assertErrno('E2BIG', root.setxattr('f', 'user.large', `${value}v`))
  },

  'a sized call answers the size for 0, ERANGE for too little': async ({ root }) => {
    await root.put('f', '')
    await root.setxattr('f', 'user.a', 'x'.repeat(100))
    await root.setxattr('f', 'user.bc', 'y')
    assert.equal(await root.getxattrSized('f', 'user.a', 0), 100)
    assert.equal(await root.getxattrSized('f', 'user.a', 100), 100)
    assert.equal(await root.getxattrSized('f', 'user.a', 65_536), 100)
    await assertErrno('ERANGE', root.getxattrSized('f', 'user.a', 99))
    const length = 'user.a\0user.bc\0'.length
    assert.equal(await root.listxattrSized('f', 0), length)
    assert.equal(await root.listxattrSized('f', length), length)
    await assertErrno('ERANGE', root.listxattrSized('f', length - 1))
  },

  'many attributes of one file are listed whole': async ({ root }) => {
    await root.put('f', '')
    const wanted = Array.from({ length: 100 }, (_, index) => `user.${String(index).padStart(3, '0')}`)
    for (const name of wanted) await root.setxattr('f', name, '')
    assert.deepEqual(await root.listxattr('f'), wanted)
  },

  'a symlink has attributes of its own, but none of user': async ({ root }) => {
    await root.put('f', '')
    await root.symlink('f', 'l')
    await root.lsetxattr('l', 'trusted.link', 'of the link')
    assert.equal(await root.lgetxattr('l', 'trusted.link'), 'of the link')
    assert.deepEqual(await root.llistxattr('l'), ['trusted.link'])
    assert.deepEqual(await root.listxattr('l'), [])
    await root.setxattr('l', 'user.file', 'of the file')
    assert.equal(await root.getxattr('f', 'user.file'), 'of the file')
    await assertErrno('EPERM', root.lsetxattr('l', 'user.link', ''))
  },

  'fifos and devices have trusted attributes, but none of user': async ({ root }) => {
    await root.mkfifo('p')
    await root.mknod('c', S_IFCHR | 0o666, await root.makedev(1, 3))
    for (const path of ['p', 'c']) {
      await root.setxattr(path, 'trusted.name', 'value')
      assert.equal(await root.getxattr(path, 'trusted.name'), 'value')
      await assertErrno('EPERM', root.setxattr(path, 'user.name', 'value'))
    }
  },

  'a name without a known namespace is refused': async ({ root, start }) => {
    await root.put('f', '')
    const user = start(alice)
    for (const name of ['name', 'other.name', 'system.name', 'User.name']) {
      await assertErrno('EOPNOTSUPP', root.setxattr('f', name, 'value'))
      await assertErrno('EOPNOTSUPP', root.getxattr('f', name))
      await assertErrno('EOPNOTSUPP', root.removexattr('f', name))
      await assert.rejects(user.setxattr('f', name, 'value'), (error) => hasErrno(error, 'EOPNOTSUPP', 'EACCES'))
    }
    for (const name of ['user.', 'trusted.']) await assertErrno('EINVAL', root.setxattr('f', name, 'value'))
    assert.deepEqual(await root.listxattr('f'), [])
  },

  'user attributes follow the mode of the file, trusted ones are for root only': async ({ root, start }) => {
    await root.put('f', '')
    await root.setxattr('f', 'user.name', 'value')
    await root.setxattr('f', 'trusted.name', 'secret')
    const user = start(alice)
    assert.equal(await user.getxattr('f', 'user.name'), 'value')
    await assertErrno('EACCES', user.setxattr('f', 'user.name', 'other'))
    await assertErrno('EPERM', user.setxattr('f', 'trusted.name', 'other'))
    await assertErrno('ENODATA', user.getxattr('f', 'trusted.name'))
    await assertErrno('EPERM', user.setxattr('f', 'security.name', 'other'))
    await root.chmod('f', 0o600)
    await assertErrno('EACCES', user.getxattr('f', 'user.name'))
  },

  'the names of trusted attributes are listed for root only': async ({ root, start }) => {
    await root.put('f', '')
    await root.setxattr('f', 'user.name', 'value')
    await root.setxattr('f', 'trusted.name', 'secret')
    const user = start(alice)
    assert.deepEqual(await user.listxattr('f'), ['user.name'])
    assert.equal(await user.listxattrSized('f', 0), 'user.name\0'.length)
  },

  'attributes belong to the inode: each of its names shows them, and setting moves ctime only': async ({ root }) => {
    await root.put('f', '')
    await root.link('f', 'g')
    await assertMoves(root, 'f', ['ctime'], () => root.setxattr('f', 'user.name', 'value'))
    await root.rename('f', 'h')
    assert.deepEqual([await root.getxattr('g', 'user.name'), await root.getxattr('h', 'user.name')], ['value', 'value'])
    await assertMoves(root, 'g', ['ctime'], () => root.removexattr('g', 'user.name'))
    assert.deepEqual(await root.listxattr('h'), [])
  },
}
