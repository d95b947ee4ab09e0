/** POSIX table: listing directories, their positions, and large ones. */
import assert from 'node:assert/strict'
import {
  DT_BLK,
  DT_CHR,
  DT_DIR,
  DT_FIFO,
  DT_LNK,
  DT_REG,
  DT_SOCK,
  O_DIRECTORY,
  O_RDONLY,
  S_IFBLK,
  S_IFCHR,
  S_IFSOCK,
  SEEK_SET,
} from './linux.ts'
import type { Cases } from './place.ts'
import { assertErrno, type Dirent, type Process } from './process.ts'
import { assertMoves } from './time.ts'

const openDirectory = (process: Process, path: string): Promise<number> => process.open(path, O_RDONLY | O_DIRECTORY)

/** All entries from the position of `fd` on; `between` runs after each portion of about `size` bytes. */
async function listOn(process: Process, fd: number, size = 32_768, between?: (round: number) => Promise<void>): Promise<Dirent[]> {
  const all: Dirent[] = []
  for (let round = 0; ; round++) {
    const some = await process.getdents(fd, size)
    if (some.length === 0) return all
    all.push(...some)
    await between?.(round)
  }
}

const namesOf = (entries: readonly Dirent[]): string[] => entries.map(({ name }) => name).sort()

const numbered = (prefix: string, first: number, last: number): string[] =>
  Array.from({ length: last - first }, (_, index) => `${prefix}-${String(first + index).padStart(6, '0')}`)

export const directories: Cases = {
  'a listing tells name, inode number and type of each entry, . and .. among them': async ({ root }) => {
    await root.mkdir('d')
    await root.chdir('d')
    await root.put('file', '')
    await root.mkdir('directory')
    await root.symlink('x', 'symlink')
    await root.mkfifo('fifo')
    await root.mknod('socket', S_IFSOCK | 0o600)
    await root.mknod('character', S_IFCHR | 0o600, await root.makedev(1, 3))
    await root.mknod('block', S_IFBLK | 0o600, await root.makedev(7, 0))
    const wanted = {
      '.': DT_DIR,
      '..': DT_DIR,
      block: DT_BLK,
      character: DT_CHR,
      directory: DT_DIR,
      fifo: DT_FIFO,
      file: DT_REG,
      socket: DT_SOCK,
      symlink: DT_LNK,
    }
    const found = await listOn(root, await openDirectory(root, '.'))
    assert.deepEqual(Object.fromEntries(found.map(({ name, type }) => [name, type])), wanted)
    for (const { name, ino } of found) assert.equal(ino, (await root.lstat(name)).ino, name)
  },

  'a directory of 100,000 entries, 65,000 of them names of one file, is listed whole and can be emptied': async ({ root, start }) => {
    await root.mkdir('large')
    await root.put('file', '')
    // Two processes: what one waits for is committed while the other asks.
    const other = start()
    await Promise.all([root.make('large', 'f', 0, 35_001), other.makeLinks('file', 'large', 'l', 0, 64_999)])
    assert.equal((await root.stat('file')).nlink, 65_000)
    await assertErrno('EMLINK', root.link('file', 'one-more'))
    const listed = namesOf(await listOn(root, await openDirectory(root, 'large')))
    assert.deepEqual(listed.slice(2), [...numbered('f', 0, 35_001), ...numbered('l', 0, 64_999)])
    await Promise.all([root.unmake('large', 'f', 0, 35_001), other.unmake('large', 'l', 0, 64_999)])
    assert.equal((await root.stat('file')).nlink, 1)
    assert.deepEqual(await root.listdir('large'), [])
    await root.rmdir('large')
  },

  'a listing skips and repeats nothing that stays, while others are created and removed': async ({ root, start }) => {
    await root.mkdir('d')
    await root.make('d', 'stays', 0, 2000)
    await root.make('d', 'goes', 0, 2000)
    const other = start()
    let [made, gone] = [0, 0]
    const found = await listOn(root, await openDirectory(root, 'd'), 4096, async (round) => {
      if (round >= 50) return // where new entries come last, a listing would never reach them all
      await other.make('d', 'new', made, made + 20)
      await other.unmake('d', 'goes', gone, Math.min(2000, gone + 20))
      made += 20
      gone = Math.min(2000, gone + 20)
    })
    assert.ok(made > 100, 'the listing came in one portion')
    const names = namesOf(found)
    assert.equal(new Set(names).size, names.length, 'an entry was listed twice')
    assert.deepEqual(
      names.filter((name) => name.startsWith('stays')),
      numbered('stays', 0, 2000),
    )
  },

  'a directory can be emptied while it is listed': async ({ root }) => {
    await root.mkdir('d')
    await root.make('d', 'f', 0, 3000)
    const fd = await openDirectory(root, 'd')
    for (;;) {
      const some = await root.getdents(fd, 2048)
      if (some.length === 0) break
      for (const { name } of some) if (!name.startsWith('.')) await root.unlink(`d/${name}`)
    }
    await root.rmdir('d')
  },

  'a position leads back to the entry after it, also when entries before it are gone': async ({ root }) => {
    await root.mkdir('d')
    await root.make('d', 'f', 0, 500)
    const fd = await openDirectory(root, 'd')
    const all = await listOn(root, fd, 1024)
    for (const at of [0, 1, 2, 250, 498]) {
      await root.seekdir(fd, all[at]?.cookie ?? '')
      assert.equal((await root.getdents(fd, 1024))[0]?.name, all[at + 1]?.name)
    }
    for (const { name } of all.slice(0, 200)) if (!name.startsWith('.')) await root.unlink(`d/${name}`)
    await root.seekdir(fd, all[300]?.cookie ?? '')
    assert.deepEqual(namesOf(await listOn(root, fd, 1024)), namesOf(all.slice(301)))
    await root.seekdir(fd, all.at(-1)?.cookie ?? '')
    assert.deepEqual(await root.getdents(fd), [])
  },

  'a rewound directory shows what has become of it': async ({ root, start }) => {
    await root.mkdir('d')
    await root.make('d', 'old', 0, 3)
    const fd = await openDirectory(root, 'd')
    assert.equal((await listOn(root, fd)).length, 5)
    const other = start()
    await other.put('d/new', '')
    await other.unlink('d/old-000001')
    await root.lseek(fd, 0, SEEK_SET)
    assert.deepEqual(namesOf(await listOn(root, fd)), ['.', '..', 'new', 'old-000000', 'old-000002'])
  },

  'another process sees a change of a directory at once, listed before or not': async ({ root, start }) => {
    await root.mkdir('d')
    const other = start()
    for (let round = 0; round < 20; round++) {
      const name = `d/${String(round)}`
      await assertErrno('ENOENT', other.stat(name))
      await root.put(name, '')
      assert.equal((await other.stat(name)).size, 0)
      assert.deepEqual(await other.listdir('d'), [String(round)])
      await root.unlink(name)
      assert.deepEqual(await other.listdir('d'), [])
    }
  },

  'mtime and ctime of a directory move with every change of its entries': async ({ root }) => {
    await root.mkdir('d')
    await root.put('file', '')
    const moves = (work: () => Promise<unknown>): Promise<void> => assertMoves(root, 'd', ['mtime', 'ctime'], work)
    await moves(() => root.mkfifo('d/fifo'))
    await moves(() => root.mkdir('d/e'))
    await moves(() => root.symlink('x', 'd/l'))
    await moves(() => root.link('file', 'd/f'))
    await moves(() => root.rename('d/f', 'd/g'))
    await moves(() => root.unlink('d/g'))
    await moves(() => root.rmdir('d/e'))
    await assertMoves(root, 'd', [], () => root.chmod('d/fifo', 0o600))
  },

  'a directory as a file: reading is EISDIR, seeking before its start EINVAL': async ({ root }) => {
    const fd = await openDirectory(root, '.')
    await assertErrno('EISDIR', root.read(fd, 10))
    await assertErrno('EINVAL', root.lseek(fd, -1, SEEK_SET))
    await root.put('file', '')
    await assertErrno('ENOTDIR', root.getdents(await root.open('file', O_RDONLY)))
    await assertErrno('EINVAL', root.getdents(fd, 8))
  },
}
