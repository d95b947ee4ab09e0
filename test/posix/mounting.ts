/** POSIX table: what a mount keeps when it is mounted again, and what it refuses when it is mounted to be read. */
import assert from 'node:assert/strict'
import { O_CREAT, O_RDONLY, O_RDWR, O_TMPFILE, O_TRUNC, O_WRONLY, RENAME_EXCHANGE, S_IFCHR, UTIME_NOW, W_OK } from './linux.ts'
import type { Place } from './place.ts'
import { assertErrno, type Process } from './process.ts'

/** A filesystem of its own: `place` runs with processes at its root while it is mounted. */
export interface Mounting {
  mounted(options: { readonly readOnly: boolean }, work: (place: Place) => Promise<void>): Promise<void>
}

const writable = { readOnly: false }

/** What there is to find again. */
async function fill({ root }: Place): Promise<void> {
  await root.mkdir('d')
  await root.put('d/file', 'content')
  await root.link('d/file', 'd/name')
  await root.symlink('d/file', 'symlink')
  await root.mkfifo('fifo')
  await root.mknod('null', S_IFCHR | 0o666, await root.makedev(1, 3))
  await root.setxattr('d/file', 'user.name', 'value')
  await root.chown('d/file', 1001, 1002)
  await root.chmod('d/file', 0o4751)
  await root.utimensat('d/file', [1, 2], [-3, 4])
  const sparse = await root.open('sparse', O_RDWR | O_CREAT, 0o600)
  await root.pwrite(sparse, 'end', 2 ** 40)
  await root.close(sparse)
}

/** All that stat and listxattr tell of every entry. */
async function look(process: Process): Promise<unknown> {
  const paths = ['.', 'd', 'd/file', 'd/name', 'symlink', 'fifo', 'null', 'sparse']
  return Promise.all(
    paths.map(async (path) => {
      const { dev: _dev, ...stat } = await process.lstat(path)
      return [path, stat, await process.llistxattr(path)]
    }),
  )
}

/** Every call that would change something. */
function changes(root: Process): Record<string, Promise<unknown>> {
  return {
    create: root.open('new', O_CREAT | O_WRONLY, 0o644),
    write: root.open('d/file', O_WRONLY),
    truncate: root.truncate('d/file', 0),
    'open to truncate': root.open('d/file', O_RDONLY | O_TRUNC),
    unnamed: root.open('.', O_TMPFILE | O_RDWR, 0o644),
    mkdir: root.mkdir('new'),
    mkfifo: root.mkfifo('new'),
    symlink: root.symlink('x', 'new'),
    link: root.link('d/file', 'new'),
    unlink: root.unlink('d/file'),
    rmdir: root.rmdir('d'),
    rename: root.rename('d/file', 'new'),
    exchange: root.renameat2('d', 'fifo', RENAME_EXCHANGE),
    chmod: root.chmod('d/file', 0o600),
    chown: root.chown('d/file', 0, 0),
    utimens: root.utimensat('d/file', [0, UTIME_NOW], [0, UTIME_NOW]),
    setxattr: root.setxattr('d/file', 'user.name', 'other'),
    removexattr: root.removexattr('d/file', 'user.name'),
    access: root.access('d/file', W_OK).then((allowed) => (allowed ? undefined : root.mkdir('new'))),
  }
}

const inodesUsed = async ({ root }: Place): Promise<number> => {
  const { files, ffree } = await root.statvfs('.')
  return files - ffree
}

export const mounting: Readonly<Record<string, (mounting: Mounting) => Promise<void>>> = {
  'statfs counts inodes exactly': async ({ mounted }) => {
    await mounted(writable, async (place) => {
      const before = await inodesUsed(place)
      await place.root.mkdir('d')
      await place.root.make('d', 'f', 0, 10)
      assert.equal(await inodesUsed(place), before + 11)
      await place.root.link('d/f-000000', 'd/g')
      assert.equal(await inodesUsed(place), before + 11)
    })
  },

  'inode numbers, attributes and content are the same after the next mount': async ({ mounted }) => {
    let before: unknown
    await mounted(writable, async (place) => {
      await fill(place)
      before = await look(place.root)
    })
    for (const readOnly of [false, true]) {
      await mounted({ readOnly }, async ({ root }) => {
        assert.deepEqual(await look(root), before)
        assert.equal(await root.get('d/file'), 'content')
        assert.equal(await root.getxattr('d/name', 'user.name'), 'value')
        assert.equal(await root.readlink('symlink'), 'd/file')
      })
    }
  },

  'a file without a name is gone after the next mount, and its space with it': async ({ mounted }) => {
    let used: number | undefined
    await mounted(writable, async (place) => {
      used = await inodesUsed(place)
      await place.root.write(await place.root.open('.', O_TMPFILE | O_RDWR, 0o600), 'x'.repeat(100_000))
      await place.root.write(await place.root.open('f', O_CREAT | O_RDWR, 0o600), 'x')
      await place.root.unlink('f')
    })
    await mounted(writable, async (place) => {
      assert.equal(await inodesUsed(place), used)
      assert.deepEqual(await place.root.listdir('.'), [])
    })
  },

  'a new inode never gets the number of one that was there before the mount': async ({ mounted }) => {
    let last = 0
    for (let round = 0; round < 3; round++) {
      await mounted(writable, async ({ root }) => {
        await root.put('f', '')
        const { ino } = await root.stat('f')
        await root.unlink('f')
        assert.ok(ino > last)
        last = ino
      })
    }
  },

  'a mount to be read refuses every change with EROFS, and reads': async ({ mounted }) => {
    await mounted(writable, fill)
    await mounted({ readOnly: true }, async ({ root }) => {
      for (const [name, call] of Object.entries(changes(root))) {
        await assertErrno('EROFS', call).catch((cause: unknown) => {
          throw new Error(name, { cause })
        })
      }
      assert.equal(await root.get('d/file'), 'content')
      const fd = await root.open('d/file', O_RDONLY)
      await root.fsync(fd)
      await root.flock(fd, 2)
    })
  },

  'a mount to be read still writes to fifos and devices': async ({ mounted }) => {
    await mounted(writable, fill)
    await mounted({ readOnly: true }, async ({ root }) => {
      const fifo = await root.open('fifo', O_RDWR)
      await root.write(fifo, 'through')
      assert.equal(await root.read(fifo, 100), 'through')
      assert.equal(await root.write(await root.open('null', O_WRONLY), 'gone'), 4)
    })
  },
}
