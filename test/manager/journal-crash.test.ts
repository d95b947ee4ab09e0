/** The store when its process is killed, its disk is full, or a system call fails; and what a change costs in system calls. */
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { inspectStore } from '../../src/manager/store-inspection.ts'
import { assertErrno, seededNumbers, withFolder } from '../support.ts'
import { action, insert, pathOf, record, using } from './journal-support.ts'

const writer = fileURLToPath(new URL('journal-writer.ts', import.meta.url))
const nodeArguments = ['--disable-warning=ExperimentalWarning', writer]
const limit = { timeout: 300_000 }

/** Runs the writer until it has confirmed `confirmations` changes and then some µs, kills it, and returns the last number confirmed. */
async function writeUntilKilled(folder: string, first: number, confirmations: number, spins: number): Promise<number> {
  const child = spawn(process.execPath, [...nodeArguments, folder, String(first), '1000000', '5'], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exit = once(child, 'exit')
  let last = first - 1
  for await (const line of createInterface({ input: child.stdout })) {
    assert.match(line, /^ok \d+$/)
    last = Number(line.slice(3)) // what it said before it died is read to the end
    if (last !== first + confirmations) continue
    for (let spin = 0; spin < spins; spin++) process.hrtime()
    child.kill('SIGKILL')
  }
  assert.deepEqual(await exit, [null, 'SIGKILL'])
  return last
}

test('whatever a killed process had confirmed is there, and at most one change more, whole', limit, async (context) => {
  const seed = Date.now() >>> 0
  context.diagnostic(`seed ${String(seed)}`)
  const next = seededNumbers(seed)
  await withFolder(async (folder) => {
    let count = 0
    for (let round = 0; round < 10; round++) {
      const last = await writeUntilKilled(folder, count + 1, next() % 12, next() % 20_000)
      using(folder, (store) => {
        const found = store.list()
        assert.ok(found.length === last || found.length === last + 1, `confirmed ${String(last)}, found ${String(found.length)}`)
        assert.deepEqual(
          found,
          Array.from(found, (_, index) => record(index + 1)),
        )
        count = found.length
      })
    }
    assert.ok(inspectStore(folder).generation > 3, 'compactions were among what was interrupted')
  })
})

test('on a full disk a change is refused with 507 and leaves nothing; with room again the store goes on', limit, () =>
  withFolder((folder) => {
    const disk = join(folder, 'disk')
    mkdirSync(disk)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=128k', 'litevol-test', disk])
    try {
      using(
        disk,
        (store) => {
          insert(store, 1)
          const ballast = join(disk, 'ballast')
          fill(ballast)
          let count = 1
          const refusal = assertErrno('ENOSPC', () => {
            for (; count < 100; count++) insert(store, count + 1)
          })
          assert.equal(refusal.status, 507)
          const full = readFileSync(pathOf(disk))
          assertErrno('ENOSPC', () => { insert(store, count + 1) }) // prettier-ignore
          assert.deepEqual(readFileSync(pathOf(disk)), full)
          assert.deepEqual(inspectStore(disk).notes, [], 'no part of the line is left')
          assert.deepEqual(
            store.list(),
            Array.from({ length: count }, (_, index) => record(index + 1)),
          )
          rmSync(ballast)
          insert(store, count + 1)
          assert.equal(inspectStore(disk).volumes, count + 1)
        },
        { compactAfter: 4 }, // compactions find no room either
      )
      using(disk, (store) => { assert.ok(store.list().length > 2) }) // prettier-ignore
    } finally {
      execFileSync('umount', [disk])
    }
  }),
)

/** Writes until the disk is full. */
function fill(file: string): void {
  for (let block = Buffer.alloc(64 * 1024); block.length >= 1; block = block.subarray(0, block.length / 2)) {
    try {
      for (;;) writeFileSync(file, block, { flag: 'a' })
    } catch {
      // the next, smaller block
    }
  }
}

/** Runs the writer with some of its system calls failing; returns what it said. */
function writeWithFaults(folder: string, faults: readonly string[], count: number, compactAfter: number): string[] {
  const injections = faults.flatMap((fault) => ['-e', `inject=${fault}`])
  const trace = ['-f', '-qq', '-o', '/dev/null', '-e', 'trace=fsync,fdatasync,rename,ftruncate', ...injections]
  const run = spawnSync('strace', [...trace, process.execPath, ...nodeArguments, folder, '1', String(count), String(compactAfter)], { encoding: 'utf8', timeout: 120_000 }) // prettier-ignore
  assert.equal(run.status, 0, run.stderr)
  return run.stdout.trimEnd().split('\n')
}

/** Making the store is fsync 1 to 3 (file, folder, the folder's own name); each change is a fdatasync, and one more when its line has to be cut off. */
const faults: readonly (readonly [string, readonly string[], number, readonly string[]])[] = [
  ['a line that cannot be synced is cut off', ['fdatasync:error=EIO:when=2'], 100, ['ok 1', 'EIO 2', 'ok 3', 'has 1 3']],
  [
    'a line that cannot even be cut off is cut off before the next is written',
    ['fdatasync:error=ENOSPC:when=2', 'ftruncate:error=EIO:when=1..2'],
    100,
    ['ok 1', 'ENOSPC 2', 'EIO 3', 'ok 4', 'has 1 4'],
  ],
  [
    'after a compaction whose folder cannot be synced, changes are refused until it can: power loss could bring the old file back',
    ['fsync:error=EIO:when=5..6'],
    2,
    ['ok 1', 'ok 2', 'EIO 3', 'ok 4', 'ok 5', 'has 1 2 4 5'],
  ],
  [
    'a compaction whose new file cannot be synced or renamed changes nothing',
    ['fsync:error=EIO:when=4', 'rename:error=EIO:when=2'],
    2,
    ['ok 1', 'ok 2', 'ok 3', 'ok 4', 'ok 5', 'ok 6', 'has 1 2 3 4 5 6'],
  ],
]
for (const [what, injections, compactAfter, said] of faults) {
  test(`${what}; memory and file say the same`, limit, () =>
    withFolder((folder) => {
      const words = writeWithFaults(folder, injections, said.length - 1, compactAfter)
      assert.deepEqual(words, said)
      const numbers = said.at(-1)?.split(' ').slice(1).map(Number) ?? []
      using(folder, (store) => { assert.deepEqual(store.list(), numbers.map(record)) }) // prettier-ignore
      assert.deepEqual(inspectStore(folder).notes, [])
    }),
  )
}

test('a store that cannot be made durable at its start does not open', limit, () =>
  withFolder((folder) => {
    using(folder, (store) => { insert(store, 1) }) // prettier-ignore
    const run = spawnSync('strace', ['-f', '-qq', '-o', '/dev/null', '-e', 'inject=fsync:error=EIO', process.execPath, ...nodeArguments, folder, '2', '1', '9'], { encoding: 'utf8', timeout: 120_000 }) // prettier-ignore
    assert.equal(run.status, 1)
    assert.match(run.stderr, /EIO: i\/o error, fsync/)
    using(folder, (store) => { assert.deepEqual(store.list(), [record(1)]) }) // prettier-ignore
  }),
)

test('a change costs one write and one fdatasync of the file, whatever the number of records', limit, () =>
  withFolder((folder) => {
    using(folder, (store) => {
      store.transact(action, (draft) => {
        for (let n = 1; n <= 2000; n++) draft.insert(record(n))
      })
    })
    const log = join(folder, 'trace')
    const calls = 'trace=write,writev,pwrite64,pwritev,fsync,fdatasync,ftruncate,rename,openat,link,unlink'
    execFileSync('strace', ['-f', '-qq', '-y', '-e', calls, '-o', log, process.execPath, ...nodeArguments, folder, '5001', '2', '100'], { timeout: 120_000 }) // prettier-ignore
    const lines = readFileSync(log, 'utf8').split('\n')
    const [from, to] = ['ok 5001', 'ok 5002'].map((word) => lines.findIndex((line) => line.includes(`"${word}\\n"`)))
    const between = lines.slice((from ?? 0) + 1, to)
    const ours = between.filter((line) => line.includes(folder))
    assert.deepEqual(
      ours.map((line) => /^\d+ +(\w+)\(/.exec(line)?.[1]),
      ['pwrite64', 'fdatasync'],
      between.join('\n'),
    )
  }),
)
