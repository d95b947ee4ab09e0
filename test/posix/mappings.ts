/** POSIX table: files mapped into memory, mmap(2), and what reaches the disk, fsync(2). */
import assert from 'node:assert/strict'
import { MAP_PRIVATE, MAP_SHARED, O_CREAT, O_DIRECTORY, O_RDONLY, O_RDWR, O_SYNC, O_WRONLY, PROT_READ, PROT_WRITE } from './linux.ts'
import type { Cases } from './place.ts'
import { assertErrno, type Process } from './process.ts'
import { isLater } from './time.ts'

const page = 4096

/** A file of `size` bytes, each 'd', open. */
async function open(process: Process, size: number): Promise<number> {
  const fd = await process.open('f', O_RDWR | O_CREAT, 0o644)
  await process.write(fd, 'd'.repeat(size))
  return fd
}

const share = (process: Process, fd: number, size: number): Promise<number> => process.mmap(fd, size, MAP_SHARED, PROT_READ | PROT_WRITE)

export const mappings: Cases = {
  'a shared mapping, read and write see each other at once': async ({ root }) => {
    const fd = await open(root, 3 * page)
    const mapping = await share(root, fd, 3 * page)
    await root.poke(mapping + page + 10, 'mapped')
    assert.equal(await root.pread(fd, 8, page + 9), 'dmappedd')
    await root.pwrite(fd, 'written', page + 10)
    assert.equal(await root.peek(mapping + page + 9, 9), 'dwrittend')
    await root.msync(mapping, 3 * page)
    assert.equal((await root.get('f')).slice(page + 10, page + 17), 'written')
  },

  'a shared mapping is one memory for several processes': async ({ root, start }) => {
    await open(root, 2 * page)
    const [one, other] = [start(), start()]
    const ofOne = await share(one, await one.open('f', O_RDWR), 2 * page)
    const ofOther = await share(other, await other.open('f', O_RDWR), 2 * page)
    for (let round = 0; round < 20; round++) {
      await one.poke(ofOne + page, `ping ${String(round)}`)
      assert.equal(await other.peek(ofOther + page, 6), `ping ${String(round)}`.slice(0, 6))
      await other.poke(ofOther, `pong ${String(round)}`)
      assert.equal(await one.peek(ofOne, 6), `pong ${String(round)}`.slice(0, 6))
      assert.equal(await root.get('f').then((content) => content.slice(0, 4)), 'pong')
    }
  },

  'what a mapping wrote is in the file after munmap and close, and moved mtime': async ({ root, start }) => {
    const fd = await open(root, 100 * page)
    await root.fsync(fd)
    const { mtime } = await root.stat(fd)
    await root.waitTick()
    const mapping = await share(root, fd, 100 * page)
    for (let at = 0; at < 100; at += 7) await root.poke(mapping + at * page, 'mapped')
    await root.msync(mapping, 100 * page)
    await root.munmap(mapping, 100 * page)
    await root.close(fd)
    const other = start()
    const content = await other.get('f')
    for (let at = 0; at < 100; at++) assert.equal(content.slice(at * page, at * page + 6), at % 7 === 0 ? 'mapped' : 'dddddd')
    assert.ok(isLater((await other.stat('f')).mtime, mtime))
  },

  'a private mapping changes no file': async ({ root }) => {
    const fd = await open(root, page)
    const mapping = await root.mmap(fd, page, MAP_PRIVATE, PROT_READ | PROT_WRITE)
    await root.poke(mapping, 'private')
    assert.equal(await root.peek(mapping, 8), 'privated')
    assert.equal(await root.pread(fd, 8, 0), 'dddddddd')
  },

  'a mapping outlives descriptor and name': async ({ root }) => {
    const fd = await open(root, page)
    const mapping = await share(root, fd, page)
    await root.close(fd)
    await root.unlink('f')
    await root.poke(mapping, 'still')
    await root.msync(mapping, page)
    assert.equal(await root.peek(mapping, 6), 'stilld')
  },

  'past the end of the file the last page is zeros, and stays out of the file': async ({ root }) => {
    const fd = await open(root, 10)
    const mapping = await share(root, fd, page)
    assert.equal(await root.peek(mapping + 8, 4), 'dd\0\0')
    await root.poke(mapping + 8, 'mapped')
    await root.msync(mapping, page)
    assert.equal(await root.get('f'), `${'d'.repeat(8)}ma`)
    await root.ftruncate(fd, 0)
    await root.ftruncate(fd, 20)
    assert.equal(await root.get('f'), '\0'.repeat(20))
  },

  'touching a page that a truncation took is SIGBUS': async ({ root, start }) => {
    const fd = await open(root, 4 * page)
    const victim = start()
    const mapping = await share(victim, await victim.open('f', O_RDWR), 4 * page)
    assert.equal(await victim.peek(mapping + 3 * page, 1), 'd')
    await root.ftruncate(fd, page)
    assert.equal(await victim.peek(mapping + page - 1, 1), 'd')
    await assert.rejects(victim.peek(mapping + 3 * page, 1), /ended/)
    assert.equal(await victim.ended(), 'SIGBUS')
  },

  'a shared mapping needs a descriptor that may do as much': async ({ root }) => {
    await open(root, page)
    await assertErrno('EACCES', share(root, await root.open('f', O_RDONLY), page))
    await assertErrno('EACCES', root.mmap(await root.open('f', O_WRONLY), page, MAP_SHARED, PROT_READ))
    await root.mmap(await root.open('f', O_RDONLY), page, MAP_PRIVATE, PROT_READ | PROT_WRITE)
  },

  'fsync and fdatasync take files, directories and descriptors that only read': async ({ root }) => {
    const fd = await open(root, 3 * page)
    for (const descriptor of [fd, await root.open('f', O_RDONLY), await root.open('.', O_RDONLY | O_DIRECTORY)]) {
      await root.fsync(descriptor)
      await root.fdatasync(descriptor)
    }
    await root.syncfs(fd)
    await root.mkfifo('p')
    await assertErrno('EINVAL', root.fsync(await root.open('p', O_RDWR)))
  },

  'an O_SYNC write is read back by others': async ({ root, start }) => {
    const fd = await root.open('f', O_WRONLY | O_CREAT | O_SYNC, 0o644)
    await root.write(fd, 'synced')
    assert.equal(await start().get('f'), 'synced')
  },
}
