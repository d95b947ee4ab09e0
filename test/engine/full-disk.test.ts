/**
 * A disk that is full at a random moment of a random operation: ENOSPC or success, nothing between, and all is well with room again.
 * The disk is a tmpfs that shrinks, mostly after the volume last looked at its room: so space.ts lets the operation begin, and SQLite
 * meets the end of the disk at some page of the WAL, of its index, or of the file itself.
 * Replay as in model.test.ts.
 */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import type { ErrnoError, Ino } from '../../src/base/index.ts'
import { Volume, blockSize, createVolumeFile } from '../../src/engine/index.ts'
import { assertProperty } from '../properties.ts'
import { assertClean, readAll, seededBytes, withFolder } from '../support.ts'
import { additions, calls, type Call, type CallCommand } from './commands.ts'
import { Pair } from './pair.ts'

/** More than the reserve of space.ts and a small volume. */
const roomy = '64m'

function run(command: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8', timeout: 30_000 })
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${stderr}`)
}

/** A tmpfs that is made smaller and larger while it is in use. */
class Disk {
  readonly folder: string

  constructor(folder: string) {
    this.folder = folder
    run('mount', '-t', 'tmpfs', '-o', `size=${roomy}`, 'litevol-test', folder)
  }

  /** Leaves only so many pages of 4 KiB free. */
  leave(pages: number): void {
    const { blocks, bfree, bsize } = statfsSync(this.folder)
    this.#resize(String((blocks - bfree) * bsize + pages * 4096))
  }

  giveRoom(): void {
    this.#resize(roomy)
  }

  #resize(size: string): void {
    run('mount', '-o', `remount,size=${size}`, this.folder)
  }
}

/** Runs `work` with a disk of its own. */
function withDisk(work: (disk: Disk) => void | Promise<void>): Promise<void> {
  return withFolder(async (folder) => {
    const mountpoint = join(folder, 'disk')
    mkdirSync(mountpoint)
    const disk = new Disk(mountpoint)
    try {
      await work(disk)
    } finally {
      run('umount', mountpoint)
    }
  })
}

const root = 2 as Ino
const [a, b] = [3 as Ino, 4 as Ino]
const name = Buffer.from
const owner = { uid: 0, gid: 0 }
const writing = { keepTimes: false, killPrivileges: true }

/** What is done to a volume with two files, `a` of three blocks and `b`, that lie in its root. */
const operations: readonly (readonly [what: string, call: Call])[] = [
  ['create', (subject) => subject.create(root, name('new'), { ...owner, mode: 0o100644 })],
  ['mkdir', (subject) => subject.create(root, name('new'), { ...owner, mode: 0o040755 })],
  ['symlink', (subject) => subject.create(root, name('new'), { ...owner, mode: 0o120777, target: Buffer.alloc(4095, 't') })],
  ['link', (subject) => subject.link(b, root, name('new'))],
  ['unlink', (subject) => subject.unlink(root, name('a'))],
  ['rename over another', (subject) => subject.rename(root, name('b'), root, name('a'), 0)],
  ['write of three blocks', (subject) => { subject.write(b, 77, seededBytes(9, 3 * blockSize), writing) }],
  ['overwrite', (subject) => { subject.write(a, 5000, seededBytes(10, 2 * blockSize), writing) }],
  ['truncate', (subject) => subject.setAttributes(a, { size: 1000 })],
  ['clear', (subject) => { subject.clear(a, 1000, 2 * blockSize, { keepSize: true }) }],
  ['copyRange', (subject) => subject.copyRange(a, 1000, b, 3, 2 * blockSize)],
  ['setXattr', (subject) => { subject.setXattr(b, name('user.a'), seededBytes(11, 65536), 0) }],
] // prettier-ignore

for (const [what, call] of operations) {
  test(`${what}: wherever the disk ends, it is done or nothing of it is`, () =>
    withDisk((disk) => {
      const template = join(disk.folder, 'template.sqlite')
      createVolumeFile(template)
      const pair = new Pair(disk.folder, template)
      try {
        for (const file of ['a', 'b']) pair.step(command((subject) => subject.create(root, name(file), { ...owner, mode: 0o104755 })))
        pair.step(command((subject) => { subject.write(a, 0, seededBytes(8, 3 * blockSize), writing) })) // prettier-ignore
        assert.ok(pair.pinned(() => attemptAtEachEnd(disk, pair, call)) > 0, 'SQLite never met the end of the disk')
        pair.step({ kind: 'reopen' })
      } finally {
        pair.close()
      }
    }))
}

const command = (call: Call): CallCommand => ({ kind: 'call', isAtomic: true, prepare: () => call })

/** Tries a call with no page free, with one, and so on until it is done. Returns how often SQLite met the end of the disk. */
function attemptAtEachEnd(disk: Disk, pair: Pair, call: Call): number {
  for (let pages = 0, stopped = 0; ; pages++) {
    disk.leave(pages)
    const error = pair.attempt(command(call))
    disk.giveRoom()
    if (error === undefined) return stopped
    if (error.message.includes('SQLITE_FULL')) stopped++
    pair.step(command((subject) => subject.createUnnamed(root, { ...owner, mode: 0o100644 }))) // looks at the room that is there again
  }
}

/** A call, and how the disk is when it is first tried: with room, or full but for some pages, with the WAL pinned or not. */
const fullness = fc.record({ pages: fc.nat({ max: 24 }), isPinned: fc.boolean() }, { noNullPrototype: true })
const steps = fc.array(fc.tuple(fc.oneof(calls, additions), fc.option(fullness, { nil: undefined })), { maxLength: 40, size: 'max' })

test('a disk that is full in the middle of anything: the volume is as before, its check is clean, and it goes on with room again', (context) =>
  withDisk((disk) => {
    const template = join(disk.folder, 'template.sqlite')
    createVolumeFile(template)
    let [done, refused, stopped] = [0, 0, 0]
    const property = fc.property(steps, fc.boolean(), (commands, isFullAtEnd) => {
      const pair = new Pair(disk.folder, template)
      try {
        for (const [command, full] of commands) {
          if (full !== undefined) {
            const attempt = (): ErrnoError | undefined => {
              disk.leave(full.pages)
              return pair.attempt(command)
            }
            const error = full.isPinned ? pair.pinned(attempt) : attempt()
            disk.giveRoom()
            if (error === undefined) done++
            else if (error.message.includes('SQLITE_FULL')) stopped++
            else refused++
          }
          pair.step(command)
        }
        if (isFullAtEnd) disk.leave(0)
        pair.closeOnFullDisk(() => {
          disk.giveRoom()
        })
      } finally {
        disk.giveRoom()
        pair.close()
      }
    })
    assertProperty(property)
    context.diagnostic(
      `on a full disk ${String(done)} went through, ${String(refused)} were refused, ${String(stopped)} were stopped midway`,
    )
    assert.ok(done > 0 && stopped > 0)
  }))

/** Holds SQLite's lock for checkpoints (WAL_CKPT_LOCK, byte 121 of the -shm) for a moment, as a long checkpoint does. */
const longCheckpoint = `
import fcntl, sys, time
with open(sys.argv[1], "r+b") as shm:
    fcntl.lockf(shm, fcntl.LOCK_EX, 1, 121)
    print("held", flush=True)
    time.sleep(0.3)
`

test('a write that needs the room of the WAL waits for a checkpoint that runs, and is not refused', () =>
  withDisk(async ({ folder }) => {
    const file = join(folder, 'volume.sqlite')
    createVolumeFile(file)
    const volume = Volume.open(file)
    const { ino } = volume.create(volume.root, name('a'), { ...owner, mode: 0o100644 })
    volume.write(ino, 0, seededBytes(1, 10 << 20), writing)
    volume.write(ino, 0, seededBytes(2, 10 << 20), writing) // 20 MiB of WAL beside a file that has to grow by 10
    const other = spawn('python3', ['-c', longCheckpoint, `${file}-shm`], { stdio: ['ignore', 'pipe', 'inherit'] })
    const ended = once(other, 'exit')
    await once(other.stdout, 'data')
    const last = seededBytes(3, 10 << 20)
    try {
      volume.write(ino, 0, last, writing)
      assert.ok(readAll(volume, ino).equals(last))
    } finally {
      volume.close()
      assert.deepEqual(await ended, [0, null])
    }
    assertClean(file)
  }))
