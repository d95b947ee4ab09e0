/**
 * Whether memory stays flat under load: `node bench/soak.ts [MINUTES [SEED]]` (60), as root. One mount, at full rate all the while: large
 * files with fsync, small ones in great number, random writes with fsync, copies, transactions of an SQLite, files read and compared,
 * caches dropped, statfs(2) every second. Prints every minute what the FUSE process has.
 * Keeps: whatever was written is compared with what it was, now and then and at the end, out of dropped caches; the volume's check is
 *   clean; a difference or an error ends the run; everything lies under one temporary folder (TMPDIR) and is gone afterwards.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { copyFile, mkdir, open, readFile, readdir, rename, rm, rmdir, stat, statfs, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { withMount, type TestMount } from '../test/mount/support.ts'
import { seededBytes, seededNumbers } from '../test/support.ts'
import { descriptorsOf, memoryOf, pssOf } from '../test/system/belongings.ts'

const [minutes = 60, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number)
const MIB = 2 ** 20

/** What the files may hold together: the oldest go first. */
const mostBytes = 2048 * MIB

/** What is written, one piece after the other, each made different from all before it. */
const pattern = seededBytes(seed, MIB)
const next = seededNumbers(seed)

/** A number from 0 up to, not including, `limit`. */
const below = (limit: number): number => next() % limit

class Load {
  readonly done: Record<string, number> = {}
  readonly #folder: string
  /** The files there are, oldest first, with their size and hash. */
  readonly #files = new Map<string, { readonly size: number; readonly sum: string }>()
  #bytes = 0
  #named = 0
  #stamped = 0
  /** What the file of the random writes holds. */
  readonly #random = Buffer.alloc(64 * MIB)
  readonly #database: Database.Database
  #rows = 0

  /** How often each is done, of a hundred. */
  readonly #kinds: readonly (readonly [share: number, work: () => Promise<void>])[] = [
    [12, () => this.#makeLarge()],
    [30, () => this.#makeSmall()],
    [15, () => this.#writeRandomly()],
    [15, () => this.#transact()],
    [12, () => this.#copy()],
    [15, () => this.#compareOne()],
    [1, () => this.#dropCaches()],
  ]

  constructor(folder: string) {
    this.#folder = folder
    this.#database = new Database(join(folder, 'database'))
    this.#database.exec('PRAGMA journal_mode=WAL; CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)')
  }

  async start(): Promise<void> {
    await writeFile(join(this.#folder, 'random'), this.#random)
  }

  /** Does one of the kinds, and counts what it did. */
  async step(): Promise<void> {
    let at = below(100)
    const [, work] = this.#kinds.find(([share]) => (at -= share) < 0) ?? assert.fail('the shares are a hundred together')
    await work()
    for (const [path, { size }] of this.#files) {
      if (this.#bytes <= mostBytes) break
      await rm(path)
      if (dirname(path) !== this.#folder && (await readdir(dirname(path))).length === 0) await rmdir(dirname(path))
      this.#files.delete(path)
      this.#bytes -= size
    }
  }

  /** Compares everything that is there, out of dropped caches. */
  async end(): Promise<void> {
    this.#database.close()
    await dropCaches()
    for (const path of this.#files.keys()) await this.#compare(path)
    assert.ok(this.#random.equals(await readFile(join(this.#folder, 'random'))), 'random: other bytes')
    const database = new Database(join(this.#folder, 'database'), { readonly: true })
    assert.equal(database.pragma('integrity_check', { simple: true }), 'ok')
    assert.equal(database.prepare('SELECT count(*) FROM t').pluck().get(), Math.min(this.#rows, 10_000))
    database.close()
  }

  #count(name: string, times = 1): void {
    this.done[name] = (this.done[name] ?? 0) + times
  }

  /** Bytes that were never written before, page by page. */
  #bytesOf(length: number): Buffer {
    const bytes = Buffer.from(pattern.subarray(0, length))
    for (let at = 0; at + 8 <= length; at += 4096) bytes.writeDoubleLE(this.#stamped++, at)
    return bytes
  }

  #add(path: string, size: number, sum: string): void {
    this.#files.set(path, { size, sum })
    this.#bytes += size
  }

  #nextPath(): string {
    return join(this.#folder, `file${String(this.#named++)}`)
  }

  async #makeLarge(): Promise<void> {
    const path = this.#nextPath()
    const size = (1 + below(300)) * MIB
    const hash = createHash('sha256')
    const file = await open(path, 'wx')
    for (let at = 0; at < size; at += MIB) {
      const piece = this.#bytesOf(MIB)
      hash.update(piece)
      await file.write(piece)
    }
    await file.sync()
    await file.close()
    this.#add(path, size, hash.digest('hex'))
    this.#count('large files')
  }

  async #makeSmall(): Promise<void> {
    const folder = this.#nextPath()
    await mkdir(folder)
    for (let n = 0; n < 20; n++) {
      const content = this.#bytesOf(100 + below(below(10) === 0 ? 200_000 : 8000))
      await writeFile(join(folder, 'new'), content)
      await rename(join(folder, 'new'), join(folder, String(n)))
      assert.equal((await stat(join(folder, String(n)))).size, content.length)
      this.#add(join(folder, String(n)), content.length, sumOf(content))
    }
    assert.equal((await readdir(folder)).length, 20)
    this.#count('small files', 20)
  }

  async #writeRandomly(): Promise<void> {
    const file = await open(join(this.#folder, 'random'), 'r+')
    for (let n = 0; n < 20; n++) {
      const at = below(this.#random.length / 4096) * 4096
      this.#bytesOf(4096).copy(this.#random, at)
      await file.write(this.#random, at, 4096, at)
      await file.datasync()
    }
    await file.close()
    this.#count('random writes', 20)
  }

  async #transact(): Promise<void> {
    const insert = this.#database.prepare('INSERT INTO t VALUES (?, ?)')
    const prune = this.#database.prepare('DELETE FROM t WHERE a <= ?')
    for (let n = 0; n < 10; n++) {
      this.#database.transaction(() => {
        insert.run(++this.#rows, pattern.toString('hex', 0, 200))
        prune.run(this.#rows - 10_000)
      })()
      await sleep(0)
    }
    this.#count('transactions', 10)
  }

  #anyPath(): string | undefined {
    return [...this.#files.keys()][below(Math.max(1, this.#files.size))]
  }

  async #copy(): Promise<void> {
    const source = this.#anyPath()
    if (source === undefined) return
    const { size, sum } = this.#files.get(source) ?? assert.fail(source)
    const path = this.#nextPath()
    await copyFile(source, path)
    this.#add(path, size, sum)
    this.#count('copies')
  }

  async #compareOne(): Promise<void> {
    const path = this.#anyPath()
    if (path === undefined) return
    await this.#compare(path)
    this.#count('files compared')
  }

  async #dropCaches(): Promise<void> {
    await dropCaches()
    this.#count('times caches dropped')
  }

  async #compare(path: string): Promise<void> {
    const { size, sum } = this.#files.get(path) ?? assert.fail(path)
    const content = await readFile(path)
    assert.deepEqual([content.length, sumOf(content)], [size, sum], path)
  }
}

const sumOf = (content: Buffer): string => createHash('sha256').update(content).digest('hex')

async function dropCaches(): Promise<void> {
  await writeFile('/proc/sys/vm/drop_caches', '3')
}

/** A row of the table. */
function printRow(minute: number, { pid }: TestMount, { done }: Load): void {
  const counts = Object.entries(done).map(([name, times]) => `${String(times)} ${name}`)
  console.log(`| ${[Math.round(minute), memoryOf(pid), pssOf(pid), descriptorsOf(pid).length, counts.join(', ')].join(' | ')} |`)
}

/** Until it is told to stop: statfs(2) every second, and a row every minute and at the end. */
async function watch(mount: TestMount, load: Load, signal: AbortSignal): Promise<void> {
  console.log(`seed ${String(seed)}\n| minute | memory of its own, MiB | PSS, MiB | descriptors | done |\n|--:|--:|--:|--:|---|`)
  const begin = Date.now()
  const minute = (): number => (Date.now() - begin) / 60_000
  for (let next = 0; !signal.aborted; await sleep(1000)) {
    await statfs(mount.mountpoint)
    if (next < minutes && minute() >= next) printRow(next++, mount, load)
  }
  printRow(minute(), mount, load)
}

await withMount(
  async (mount) => {
    const load = new Load(mount.mountpoint)
    await load.start()
    const stop = new AbortController()
    const watching = watch(mount, load, stop.signal)
    watching.catch(() => undefined) // looked at below
    const deadline = Date.now() + minutes * 60_000
    try {
      while (Date.now() < deadline) await load.step()
    } finally {
      stop.abort()
      await watching
    }
    await load.end()
    console.log('all of it was read back')
  },
  { mode: 'standby', logLevel: 'error' },
)
