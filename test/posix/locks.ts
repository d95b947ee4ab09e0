/** POSIX table: flock(2), byte ranges of fcntl(2), and those of open file descriptions. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { until } from '../support.ts'
import {
  F_GETLK,
  F_OFD_GETLK,
  F_OFD_SETLK,
  F_RDLCK,
  F_SETLK,
  F_SETLKW,
  F_UNLCK,
  F_WRLCK,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  O_RDONLY,
  O_RDWR,
} from './linux.ts'
import type { Cases, Place } from './place.ts'
import { assertErrno, type Process } from './process.ts'

/** Two processes that have the file `f` open. */
async function two({ root, start }: Place): Promise<[Process, number, Process, number]> {
  await root.put('f', 'content')
  const [one, other] = [start(), start()]
  return [one, await one.open('f', O_RDWR), other, await other.open('f', O_RDWR)]
}

/** Returns when the kernel has the process wait for a lock: proc_locks(5) has a line for it, with an arrow. */
async function untilWaiting(one: Process): Promise<void> {
  const waits = new RegExp(`-> \\S+ +\\S+ +\\S+ ${String(await one.getpid())} `)
  await until('it waits for the lock', () => waits.test(readFileSync('/proc/locks', 'utf8')), 60_000)
}

export const locks: Cases = {
  'flock: one exclusive holder or several shared ones, and a change of mind': async (place) => {
    const [one, fd, other, fdOfOther] = await two(place)
    await one.flock(fd, LOCK_EX)
    await assertErrno('EAGAIN', other.flock(fdOfOther, LOCK_EX | LOCK_NB))
    await assertErrno('EAGAIN', other.flock(fdOfOther, LOCK_SH | LOCK_NB))
    await one.flock(fd, LOCK_SH)
    await other.flock(fdOfOther, LOCK_SH | LOCK_NB)
    await assertErrno('EAGAIN', one.flock(fd, LOCK_EX | LOCK_NB))
    await other.flock(fdOfOther, LOCK_UN)
    await one.flock(fd, LOCK_EX | LOCK_NB)
  },

  'flock belongs to the open file: a duplicate keeps it, the last close lets it go': async (place) => {
    const [one, fd, other, fdOfOther] = await two(place)
    const duplicate = await one.dup(fd)
    await one.flock(fd, LOCK_EX)
    await one.close(fd)
    await assertErrno('EAGAIN', other.flock(fdOfOther, LOCK_EX | LOCK_NB))
    const second = await one.open('f', O_RDONLY)
    await assertErrno('EAGAIN', one.flock(second, LOCK_SH | LOCK_NB))
    await one.close(duplicate)
    await other.flock(fdOfOther, LOCK_EX | LOCK_NB)
  },

  'flock waits until the holder lets go, and takes it from one that was killed': async (place) => {
    const [one, fd, other, fdOfOther] = await two(place)
    await one.flock(fd, LOCK_EX)
    const waits = untilWaiting(other)
    const waiting = other.flock(fdOfOther, LOCK_EX)
    await waits
    await one.stop()
    await waiting
    await assertErrno('EAGAIN', place.root.flock(await place.root.open('f', O_RDONLY), LOCK_SH | LOCK_NB))
  },

  'flock takes a directory too': async ({ root, start }) => {
    await root.flock(await root.open('.', O_RDONLY), LOCK_EX)
    const other = start()
    await assertErrno('EAGAIN', other.flock(await other.open('.', O_RDONLY), LOCK_SH | LOCK_NB))
  },

  'fcntl: ranges that overlap conflict between processes, others do not': async (place) => {
    const [one, fd, other, fdOfOther] = await two(place)
    await one.lock(fd, F_SETLK, F_WRLCK, 10, 10)
    await assertErrno('EAGAIN', other.lock(fdOfOther, F_SETLK, F_WRLCK, 19, 1))
    await assertErrno('EAGAIN', other.lock(fdOfOther, F_SETLK, F_RDLCK, 0, 0))
    await other.lock(fdOfOther, F_SETLK, F_WRLCK, 20, 100)
    await other.lock(fdOfOther, F_SETLK, F_RDLCK, 0, 10)
    await one.lock(fd, F_SETLK, F_RDLCK, 5, 5)
    await assertErrno('EAGAIN', one.lock(fd, F_SETLK, F_WRLCK, 5, 5))
  },

  'fcntl tells who holds what': async (place) => {
    const [one, fd, other, fdOfOther] = await two(place)
    await one.lock(fd, F_SETLK, F_WRLCK, 10, 10)
    const held = { type: F_WRLCK, start: 10, length: 10, pid: await one.getpid() }
    assert.deepEqual(await other.lock(fdOfOther, F_GETLK, F_RDLCK, 0, 0), held)
    assert.equal((await other.lock(fdOfOther, F_GETLK, F_RDLCK, 20, 0)).type, F_UNLCK)
    assert.equal((await one.lock(fd, F_GETLK, F_WRLCK, 0, 0)).type, F_UNLCK)
  },

  'fcntl: unlocking the middle leaves both ends locked': async (place) => {
    const [one, fd, other, fdOfOther] = await two(place)
    await one.lock(fd, F_SETLK, F_WRLCK, 0, 100)
    await one.lock(fd, F_SETLK, F_UNLCK, 40, 20)
    await other.lock(fdOfOther, F_SETLK, F_WRLCK, 40, 20)
    await assertErrno('EAGAIN', other.lock(fdOfOther, F_SETLK, F_WRLCK, 39, 1))
    await assertErrno('EAGAIN', other.lock(fdOfOther, F_SETLK, F_WRLCK, 60, 1))
  },

  'fcntl: a process that closes any descriptor of the file lets its ranges go': async (place) => {
    const [one, fd, other, fdOfOther] = await two(place)
    await one.lock(fd, F_SETLK, F_WRLCK, 0, 0)
    await assertErrno('EAGAIN', other.lock(fdOfOther, F_SETLK, F_WRLCK, 0, 1))
    await one.close(await one.open('f', O_RDONLY))
    await other.lock(fdOfOther, F_SETLK, F_WRLCK, 0, 1)
  },

  'fcntl waits until the range is free, and takes it from a holder that was killed': async (place) => {
    const [one, fd, other, fdOfOther] = await two(place)
    await one.lock(fd, F_SETLK, F_WRLCK, 0, 10)
    const waits = untilWaiting(other)
    const waiting = other.lock(fdOfOther, F_SETLKW, F_WRLCK, 5, 10)
    await waits
    await one.stop()
    await waiting
  },

  'fcntl: two that would wait for each other get EDEADLK': async (place) => {
    const [one, fd, other, fdOfOther] = await two(place)
    await one.lock(fd, F_SETLK, F_WRLCK, 0, 1)
    await other.lock(fdOfOther, F_SETLK, F_WRLCK, 1, 1)
    const waits = untilWaiting(one)
    const waiting = one.lock(fd, F_SETLKW, F_WRLCK, 1, 1)
    await waits
    await assertErrno('EDEADLK', other.lock(fdOfOther, F_SETLKW, F_WRLCK, 0, 1))
    await other.lock(fdOfOther, F_SETLK, F_UNLCK, 1, 1)
    await waiting
  },

  'fcntl: a lock needs a descriptor that may do as much, and a range that exists': async ({ root }) => {
    await root.put('f', '')
    const reading = await root.open('f', O_RDONLY)
    await assertErrno('EBADF', root.lock(reading, F_SETLK, F_WRLCK, 0, 0))
    await root.lock(reading, F_SETLK, F_RDLCK, 2 ** 60, 0)
    await assertErrno('EINVAL', root.lock(reading, F_SETLK, F_RDLCK, -1, 1))
  },

  'OFD locks belong to the open file: they conflict within a process and survive other closes': async (place) => {
    const [one, fd, other, fdOfOther] = await two(place)
    await one.lock(fd, F_OFD_SETLK, F_WRLCK, 0, 10)
    const second = await one.open('f', O_RDWR)
    await assertErrno('EAGAIN', one.lock(second, F_OFD_SETLK, F_WRLCK, 5, 1))
    await one.close(second)
    await assertErrno('EAGAIN', other.lock(fdOfOther, F_OFD_SETLK, F_RDLCK, 9, 1))
    await assertErrno('EAGAIN', other.lock(fdOfOther, F_SETLK, F_RDLCK, 9, 1))
    const { type, start, length, pid } = await other.lock(fdOfOther, F_OFD_GETLK, F_RDLCK, 0, 0)
    assert.deepEqual([type, start, length, pid], [F_WRLCK, 0, 10, -1])
    await one.close(fd)
    await other.lock(fdOfOther, F_OFD_SETLK, F_WRLCK, 0, 10)
  },

  'flock and fcntl know nothing of each other': async (place) => {
    const [one, fd, other, fdOfOther] = await two(place)
    await one.flock(fd, LOCK_EX)
    await other.lock(fdOfOther, F_SETLK, F_WRLCK, 0, 0)
  },

  'locks follow the inode: through another name, and after an unlink': async ({ root, start }) => {
    await root.put('f', '')
    await root.link('f', 'g')
    const other = start()
    const fdOfOther = await other.open('g', O_RDWR)
    await root.lock(await root.open('f', O_RDWR), F_SETLK, F_WRLCK, 0, 0)
    await root.unlink('f')
    await root.unlink('g')
    await assertErrno('EAGAIN', other.lock(fdOfOther, F_SETLK, F_WRLCK, 0, 0))
  },
}
