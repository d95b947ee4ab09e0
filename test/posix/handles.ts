/** POSIX table: file handles, name_to_handle_at(2), as an NFS server would use them. */
import assert from 'node:assert/strict'
import { O_DIRECTORY, O_PATH, O_RDONLY, O_RDWR } from './linux.ts'
import { alice, type Cases } from './place.ts'
import { assertErrno, dropCaches, hasErrno, type Process } from './process.ts'

/** How long the kernel may hold an inode that nobody has open: until a busy FUSE process has answered its RELEASE; in ms. */
const forgottenWithinMs = 60_000

/** Drops caches until the handle leads nowhere. */
async function untilForgotten(root: Process, mount: number, handle: Parameters<Process['openByHandle']>[1]): Promise<void> {
  for (const deadline = Date.now() + forgottenWithinMs; Date.now() < deadline;) {
    await dropCaches(root)
    try {
      await root.close(await root.openByHandle(mount, handle, O_RDONLY))
    } catch (error) {
      if (hasErrno(error, 'ESTALE')) return
    }
  }
  await assertErrno('ESTALE', root.openByHandle(mount, handle, O_RDONLY))
}

export const handles: Cases = {
  'a file handle opens its file, also after the kernel has forgotten it': async ({ root }) => {
    await root.mkdir('d')
    await root.put('d/f', 'content')
    const [file, directory] = [await root.nameToHandle('d/f'), await root.nameToHandle('d')]
    const { ino } = await root.stat('d/f')
    const mount = await root.open('.', O_RDONLY | O_DIRECTORY)
    for (const forget of [async () => undefined, () => dropCaches(root)]) {
      await forget()
      const fd = await root.openByHandle(mount, file, O_RDWR)
      assert.deepEqual([await root.read(fd, 100), (await root.stat(fd)).ino], ['content', ino])
      await root.close(fd)
      const fdOfDirectory = await root.openByHandle(mount, directory, O_RDONLY | O_DIRECTORY)
      assert.equal((await root.getdents(fdOfDirectory)).length, 3)
      await root.close(fdOfDirectory)
    }
  },

  'a file handle is the same for each name of the file, and stays through renames': async ({ root }) => {
    await root.mkdir('d')
    await root.put('f', 'content')
    const handle = await root.nameToHandle('f')
    await root.link('f', 'd/g')
    assert.equal(await root.nameToHandle('d/g'), handle)
    await root.unlink('f')
    await root.rename('d/g', 'd/h')
    await dropCaches(root)
    const fd = await root.openByHandle(await root.open('.', O_RDONLY), handle, O_RDONLY)
    assert.equal(await root.read(fd, 100), 'content')
  },

  'a file handle of a directory finds its way up, after the kernel has forgotten it': async ({ root }) => {
    await root.mkdir('a')
    await root.mkdir('a/b')
    await root.mkdir('a/b/c')
    const handle = await root.nameToHandle('a/b/c')
    const parent = await root.stat('a/b')
    await root.rename('a/b', 'moved')
    await dropCaches(root)
    const fd = await root.openByHandle(await root.open('.', O_RDONLY), handle, O_RDONLY | O_DIRECTORY)
    await root.chdir(fd)
    assert.equal((await root.stat('..')).ino, parent.ino)
    await root.put('f', '')
    assert.deepEqual(await root.listdir('.'), ['f'])
  },

  'a file handle of a removed file is ESTALE, unless somebody has it open': async ({ root, start }) => {
    await root.put('f', 'content')
    const handle = await root.nameToHandle('f')
    const mount = await root.open('.', O_RDONLY)
    const other = start()
    const fd = await other.open('f', O_RDONLY)
    await root.unlink('f')
    assert.equal(await other.read(fd, 100), 'content')
    await other.close(fd)
    await untilForgotten(root, mount, handle)
    await root.put('f', 'another file')
    await assertErrno('ESTALE', root.openByHandle(mount, handle, O_RDONLY))
  },

  'file handles are opened by root only, and taken of anything': async ({ root, start }) => {
    await root.mkfifo('p')
    await root.symlink('x', 'l')
    const handle = await root.nameToHandle('p')
    const fd = await root.openByHandle(await root.open('.', O_RDONLY), await root.nameToHandle('l'), O_PATH)
    assert.equal((await root.stat(fd)).ino, (await root.lstat('l')).ino)
    const user = start(alice)
    await assertErrno('EPERM', user.openByHandle(await user.open('.', O_RDONLY), handle, O_RDONLY))
  },
}
