/** POSIX table: sizes, holes, fallocate, copy_file_range, st_blocks and statfs. */
import assert from 'node:assert/strict'
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  MAP_SHARED,
  O_APPEND,
  O_CREAT,
  O_DIRECT,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  PROT_READ,
  PROT_WRITE,
  SEEK_DATA,
  SEEK_END,
  SEEK_HOLE,
  SEEK_SET,
} from './linux.ts'
import type { Cases } from './place.ts'
import { assertErrno, hasErrno, type Process } from './process.ts'
import { assertMoves } from './time.ts'

const page = 4096
const block = 131_072
const punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE

const newFile = (process: Process, name = 'f'): Promise<number> => process.open(name, O_RDWR | O_CREAT, 0o644)

/** A file of `length` bytes, each 'd' (data), on the disk. */
async function dataFile(process: Process, length: number, name = 'f'): Promise<number> {
  const fd = await newFile(process, name)
  await process.write(fd, 'd'.repeat(length))
  await process.fsync(fd)
  return fd
}

/** The file's data ranges as SEEK_DATA and SEEK_HOLE tell them. */
async function dataRanges(process: Process, fd: number): Promise<[start: number, end: number][]> {
  const ranges: [number, number][] = []
  for (let at = 0; ;) {
    const start = await process.lseek(fd, at, SEEK_DATA).catch((error: unknown) => {
      if (hasErrno(error, 'ENXIO')) return undefined
      throw error
    })
    if (start === undefined) return ranges
    at = await process.lseek(fd, start, SEEK_HOLE)
    ranges.push([start, at])
  }
}

/** st_blocks after a close of a descriptor of the file: only then does the kernel ask a FUSE server for it again (docs/posix.md). */
async function blocksOf(process: Process, fd: number): Promise<number> {
  await process.close(await process.dup(fd))
  return (await process.stat(fd)).blocks
}

export const space: Cases = {
  'a file grown by truncate reads as zeros, and one cut loses what was there': async ({ root }) => {
    await root.put('f', 'content')
    await root.truncate('f', 3)
    await root.truncate('f', 6)
    assert.equal(await root.get('f'), 'con\0\0\0')
    const fd = await root.open('f', O_RDWR)
    await root.ftruncate(fd, 300_000)
    assert.equal(await root.pread(fd, 4, 299_998), '\0\0')
    await root.ftruncate(fd, 0)
    assert.equal(await root.read(fd, 10), '')
  },

  'a write past the end leaves a hole of zeros': async ({ root }) => {
    const fd = await newFile(root)
    await root.pwrite(fd, 'end', 200_001)
    await root.pwrite(fd, 'begin', 0)
    const content = await root.get('f')
    assert.equal(content, `begin${'\0'.repeat(199_996)}end`)
  },

  'a sparse file may be nearly 16 TiB long': async ({ root, start }) => {
    const fd = await newFile(root)
    const last = 2 ** 44 - 2 * page
    await root.pwrite(fd, 'the end', last)
    await root.pwrite(fd, 'middle', 2 ** 43 + 1)
    await root.fsync(fd)
    assert.equal((await root.stat('f')).size, last + 7)
    const other = start()
    const reader = await other.open('f', O_RDONLY)
    assert.equal(await other.pread(reader, 100, last - 1), '\0the end')
    assert.equal(await other.pread(reader, 8, 2 ** 43), '\0middle\0')
    assert.equal(await other.lseek(reader, 0, SEEK_END), last + 7)
    await root.ftruncate(fd, 2 ** 44 - page)
    assert.equal((await root.stat('f')).size, 2 ** 44 - page)
    assert.ok((await blocksOf(root, fd)) < 1000)
  },

  'a truncation past 16 TiB is EFBIG and changes nothing': async ({ root }) => {
    const fd = await dataFile(root, 10)
    for (const size of [2 ** 44 + 1, 2 ** 50, 2 ** 62]) {
      await assertErrno('EFBIG', root.ftruncate(fd, size))
      await assertErrno('EFBIG', root.truncate('f', size))
    }
    assert.equal((await root.stat('f')).size, 10)
    assert.equal(await root.get('f'), 'd'.repeat(10))
  },

  'a write past 16 TiB fails, at the latest with fsync, and the file can be used on': async ({ root, start }) => {
    const fd = await newFile(root)
    await assertErrno(
      'EFBIG',
      root.pwrite(fd, 'x', 2 ** 44).then(() => root.fsync(fd)),
    )
    await root.ftruncate(fd, 0)
    await root.write(fd, 'content')
    await root.fsync(fd)
    assert.equal(await start().get('f'), 'content')
    // syncfs(2) tells of an error once: it is for nobody after us.
    await root.syncfs(fd).catch((error: unknown) => {
      assert.ok(hasErrno(error, 'EFBIG'))
    })
  },

  'a write past RLIMIT_FSIZE is cut there, then EFBIG': async ({ start }) => {
    const process = start()
    await process.limitFileSize(10)
    const fd = await newFile(process)
    assert.equal(await process.write(fd, 'x'.repeat(20)), 10)
    await assertErrno('EFBIG', process.write(fd, 'x'))
    await assertErrno('EFBIG', process.ftruncate(fd, 11))
    assert.equal((await process.stat(fd)).size, 10)
  },

  'fallocate makes a file longer, with zeros, and keeps what was there': async ({ root }) => {
    const fd = await newFile(root)
    await root.write(fd, 'content')
    await root.fallocate(fd, 0, 3, 200_000)
    assert.equal((await root.stat('f')).size, 200_003)
    assert.equal(await root.get('f'), `content${'\0'.repeat(199_996)}`)
    await root.fallocate(fd, 0, 0, 10)
    assert.equal((await root.stat('f')).size, 200_003)
    await root.posix_fallocate(fd, 0, 300_000)
    assert.equal((await root.stat('f')).size, 300_000)
  },

  'fallocate with KEEP_SIZE changes no byte and no size': async ({ root }) => {
    const fd = await dataFile(root, 10)
    await root.fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1_000_000)
    assert.equal(await root.get('f'), 'd'.repeat(10))
  },

  'a punched hole reads as zeros, frees its blocks and keeps the size': async ({ root, start }) => {
    const fd = await dataFile(root, 4 * block)
    const before = await blocksOf(root, fd)
    await assertMoves(root, 'f', ['mtime', 'ctime'], () => root.fallocate(fd, punch, block, 2 * block))
    assert.equal(before - (await blocksOf(root, fd)), (2 * block) / 512)
    assert.equal((await root.stat(fd)).size, 4 * block)
    const content = await start().get('f')
    assert.equal(content, 'd'.repeat(block) + '\0'.repeat(2 * block) + 'd'.repeat(block))
  },

  'a hole punched within a page leaves its neighbours': async ({ root }) => {
    const fd = await dataFile(root, 3 * page)
    await root.fallocate(fd, punch, 100, page)
    await root.fallocate(fd, punch, 2 * page + 5, 1)
    assert.equal(await root.get('f'), `${'d'.repeat(100)}${'\0'.repeat(page)}${'d'.repeat(page - 95)}\0${'d'.repeat(page - 6)}`)
    await root.fallocate(fd, punch, 3 * page, page)
    assert.equal((await root.stat(fd)).size, 3 * page)
  },

  'a hole punched through unwritten pages takes them too': async ({ root }) => {
    const fd = await newFile(root)
    await root.write(fd, 'd'.repeat(2 * block))
    await root.fallocate(fd, punch, 0, block)
    await root.fsync(fd)
    assert.equal(await root.get('f'), '\0'.repeat(block) + 'd'.repeat(block))
  },

  'a zeroed range reads as zeros and makes the file longer unless told to keep its size': async ({ root }) => {
    const fd = await dataFile(root, 2 * page)
    await root.fallocate(fd, FALLOC_FL_ZERO_RANGE, 100, page)
    assert.equal(await root.get('f'), `${'d'.repeat(100)}${'\0'.repeat(page)}${'d'.repeat(page - 100)}`)
    await root.fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, page, 10 * page)
    assert.equal(await root.get('f'), `${'d'.repeat(100)}${'\0'.repeat(2 * page - 100)}`)
    await root.fallocate(fd, FALLOC_FL_ZERO_RANGE, page, 10 * page)
    assert.equal((await root.stat('f')).size, 11 * page)
  },

  'fallocate refuses what makes no sense': async ({ root }) => {
    const fd = await dataFile(root, 10)
    await assertErrno('EINVAL', root.fallocate(fd, 0, 0, 0))
    await assertErrno('EINVAL', root.fallocate(fd, 0, -1, 10))
    await assertErrno('EINVAL', root.fallocate(fd, 0, 0, -1))
    await assertErrno('EOPNOTSUPP', root.fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10))
    await assertErrno('EFBIG', root.fallocate(fd, 0, 2 ** 44, 10))
    await assertErrno('EBADF', root.fallocate(await root.open('f', O_RDONLY), 0, 0, 10))
    await root.mkfifo('p')
    await assertErrno('ESPIPE', root.fallocate(await root.open('p', O_RDWR), 0, 0, 10))
    assert.equal((await root.stat('f')).size, 10)
  },

  'collapse and insert are refused before they reach a FUSE server': async ({ root }) => {
    const fd = await dataFile(root, 4 * block)
    await assertErrno('EOPNOTSUPP', root.fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, block))
    await assertErrno('EOPNOTSUPP', root.fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, block))
    assert.equal(await root.get('f'), 'd'.repeat(4 * block))
  },

  'FICLONE is refused before it reaches a FUSE server': async ({ root }) => {
    const source = await dataFile(root, block)
    const target = await newFile(root, 'g')
    await assertErrno('EOPNOTSUPP', root.ficlone(target, source))
  },

  'SEEK_DATA and SEEK_HOLE tell where data lie': async ({ root }) => {
    const fd = await newFile(root)
    await root.pwrite(fd, 'd'.repeat(block), 2 * block)
    await root.pwrite(fd, 'd'.repeat(page), 5 * block)
    await root.ftruncate(fd, 10 * block)
    await root.fsync(fd)
    const wanted = [
      [2 * block, 3 * block],
      [5 * block, 5 * block + page],
    ]
    assert.deepEqual(await dataRanges(root, fd), wanted)
    assert.deepEqual(await dataRanges(root, await root.open('f', O_RDONLY)), wanted)
    assert.equal(await root.lseek(fd, 2 * block + 7, SEEK_DATA), 2 * block + 7)
    assert.equal(await root.lseek(fd, 7, SEEK_HOLE), 7)
    assert.equal(await root.lseek(fd, 9 * block, SEEK_HOLE), 9 * block)
    for (const whence of [SEEK_DATA, SEEK_HOLE]) {
      await assertErrno('ENXIO', root.lseek(fd, 10 * block, whence))
      await assertErrno('ENXIO', root.lseek(fd, 11 * block, whence))
    }
    await assertErrno('ENXIO', root.lseek(fd, 9 * block, SEEK_DATA))
  },

  'SEEK_DATA and SEEK_HOLE see a punched hole': async ({ root }) => {
    const fd = await dataFile(root, 4 * block)
    assert.deepEqual(await dataRanges(root, fd), [[0, 4 * block]])
    await root.fallocate(fd, punch, block, block)
    assert.deepEqual(await dataRanges(root, fd), [
      [0, block],
      [2 * block, 4 * block],
    ])
  },

  'holes of a closed file are told to the byte': async ({ root }) => {
    const fd = await newFile(root)
    await root.pwriteDirect(fd, 'd'.repeat(page), block)
    await root.fallocate(fd, punch, block + 100, 200)
    await root.close(fd)
    assert.deepEqual(await dataRanges(root, await root.open('f', O_RDONLY)), [
      [block, block + 100],
      [block + 300, block + page],
    ])
  },

  'SEEK_DATA misses nothing that is written and not yet synced': async ({ root, start }) => {
    const fd = await newFile(root)
    await root.ftruncate(fd, 10 * block)
    await root.pwrite(fd, 'x'.repeat(page), 4 * block)
    const other = start()
    const reader = await other.open('f', O_RDONLY)
    for (const [process, descriptor] of [
      [root, fd],
      [other, reader],
    ] as const) {
      const found = await dataRanges(process, descriptor)
      assert.ok(
        found.some(([from, to]) => from <= 4 * block && to >= 4 * block + page),
        JSON.stringify(found),
      )
    }
    await root.pwrite(fd, 'y', 20 * block)
    assert.equal(await other.lseek(reader, 20 * block, SEEK_DATA), 20 * block)
  },

  'SEEK_DATA misses nothing that is written through a mapping': async ({ root }) => {
    const fd = await newFile(root)
    await root.ftruncate(fd, 10 * block)
    await root.fsync(fd)
    await root.poke((await root.mmap(fd, 10 * block, MAP_SHARED, PROT_READ | PROT_WRITE)) + 4 * block, 'x')
    await root.close(fd)
    const found = await dataRanges(root, await root.open('f', O_RDONLY))
    assert.ok(
      found.some(([from, to]) => from <= 4 * block && to > 4 * block),
      JSON.stringify(found),
    )
  },

  'copy_file_range copies what was written, synced or not, holes as zeros': async ({ root }) => {
    const source = await newFile(root, 'source')
    await root.pwrite(source, 'a'.repeat(block), 0)
    await root.pwrite(source, 'b'.repeat(block), 3 * block)
    const target = await newFile(root, 'target')
    let copied = 0
    while (copied < 4 * block) copied += await root.copyFileRange(source, target, 4 * block - copied, copied, copied)
    assert.equal(await root.get('target'), await root.get('source'))
    assert.equal(copied, 4 * block)
    assert.equal(await root.copyFileRange(source, target, 100, 4 * block, 0), 0)
    assert.equal(await root.copyFileRange(source, target, 100, 4 * block - 10, 0), 10)
  },

  'copy_file_range copies between odd offsets and within one file': async ({ root }) => {
    const bytes = Array.from({ length: 3000 }, (_, index) => String(index).padStart(6, '0')).join('')
    await root.put('f', bytes)
    const fd = await root.open('f', O_RDWR)
    assert.equal(await root.copyFileRange(fd, fd, 5001, 7, 12_003), 5001)
    const wanted = bytes.slice(0, 12_003) + bytes.slice(7, 5008) + bytes.slice(17_004)
    assert.equal(await root.get('f'), wanted)
    await assertErrno('EINVAL', root.copyFileRange(fd, fd, 5000, 0, 100))
  },

  'a copy does not change with its source': async ({ root }) => {
    const source = await dataFile(root, 2 * block, 'source')
    const target = await newFile(root, 'target')
    assert.equal(await root.copyFileRange(source, target, 2 * block, 0, 0), 2 * block)
    await root.pwrite(source, 'changed', 10)
    await root.pwrite(target, 'otherwise', block)
    await root.unlink('source')
    assert.equal(await root.get('target'), `${'d'.repeat(block)}otherwise${'d'.repeat(block - 9)}`)
    assert.equal(await root.pread(source, 9, 9), 'dchangedd')
  },

  'copy_file_range needs descriptors that read, write and do not append': async ({ root }) => {
    const fd = await dataFile(root, 10)
    await root.put('g', '')
    await assertErrno('EBADF', root.copyFileRange(fd, await root.open('g', O_RDONLY), 10, 0, 0))
    await assertErrno('EBADF', root.copyFileRange(await root.open('f', O_WRONLY), fd, 10, 0, 20))
    await assertErrno('EBADF', root.copyFileRange(fd, await root.open('g', O_WRONLY | O_APPEND), 10, 0, 0))
    await assertErrno('EISDIR', root.copyFileRange(await root.open('.', O_RDONLY), fd, 10, 0, 0))
  },

  'st_blocks counts stored bytes: of a hole none': async ({ root }) => {
    const fd = await newFile(root)
    await root.ftruncate(fd, 100 * block)
    assert.equal(await blocksOf(root, fd), 0)
    await root.pwrite(fd, 'd'.repeat(2 * block), 10 * block)
    await root.fsync(fd)
    assert.equal(await blocksOf(root, fd), (2 * block) / 512)
    await root.pwrite(fd, 'e'.repeat(block), 11 * block)
    await root.fsync(fd)
    assert.equal(await blocksOf(root, fd), (2 * block) / 512)
    await root.ftruncate(fd, 11 * block)
    assert.equal(await blocksOf(root, fd), block / 512)
    await root.ftruncate(fd, 0)
    assert.equal(await blocksOf(root, fd), 0)
  },

  'statfs tells room and names: free is no more than there is, and available no more than free': async ({ root }) => {
    const room = await root.statvfs('.')
    assert.equal(room.namemax, 255)
    assert.ok(room.bavail > 0 && room.bavail <= room.bfree && room.bfree <= room.blocks, JSON.stringify(room))
    assert.ok(room.ffree > 0 && room.ffree < room.files, JSON.stringify(room))
    assert.deepEqual((await root.statvfs(await root.open('.', O_RDONLY))).blocks, room.blocks)
  },

  'O_DIRECT reads and writes the same bytes as the page cache': async ({ root, start }) => {
    const fd = await root.open('f', O_RDWR | O_CREAT | O_DIRECT, 0o644)
    const content = 'a'.repeat(page) + 'b'.repeat(page)
    assert.equal(await root.pwriteDirect(fd, content, 0), 2 * page)
    assert.equal(await root.get('f'), content)
    const other = start()
    const cached = await other.open('f', O_RDWR)
    await other.pwrite(cached, 'cached', page)
    assert.equal((await root.preadDirect(fd, page, page)).slice(0, 7), 'cachedb')
    await root.pwriteDirect(fd, 'c'.repeat(page), 0)
    assert.equal(await other.pread(cached, 3, 0), 'ccc')
    await root.lseek(fd, 0, SEEK_SET)
  },
}
