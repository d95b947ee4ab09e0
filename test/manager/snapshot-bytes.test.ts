/** Snapshots of a real SQLite file in WAL mode, read while writers and checkpoints go on. */
import assert from 'node:assert/strict'
import { openSync, closeSync, readFileSync, statSync, truncateSync, utimesSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import { SnapshotBytes, type SnapshotExtent } from '../../src/manager/snapshot-bytes.ts'
import { withFolder } from '../support.ts'

interface Fixture {
  readonly folder: string
  readonly file: string
  readonly writer: Database.Database
  /** Writes `count` rows of about 3 KB and a stamp. */
  readonly write: (stamp: number, count: number) => void
  /** Holds a read transaction; returns the extent, how to end it and the content by which it is known. */
  readonly hold: () => { readonly extent: SnapshotExtent; readonly content: readonly unknown[]; readonly release: () => void }
}

const query = 'SELECT id, stamp, length(body) AS size FROM rows ORDER BY id'

async function withDatabase(pageSize: number, work: (fixture: Fixture) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    const file = join(folder, 'db.sqlite')
    const writer = new Database(file)
    writer.pragma(`page_size = ${String(pageSize)}`)
    writer.pragma('journal_mode = WAL')
    writer.pragma('wal_autocheckpoint = 0')
    writer.exec('CREATE TABLE rows (id INTEGER PRIMARY KEY, stamp INTEGER, body BLOB)')
    const insert = writer.prepare('INSERT OR REPLACE INTO rows VALUES (?, ?, randomblob(3000))')
    const write = (stamp: number, count: number): void => {
      for (let i = 0; i < count; i++) insert.run((stamp * 7 + i * 13) % 500, stamp)
    }
    const hold = (): ReturnType<Fixture['hold']> => {
      const reader = new Database(file)
      const [{ log, checkpointed } = { log: 0, checkpointed: 0 }] = reader.pragma('wal_checkpoint(NOOP)') as {
        log: number
        checkpointed: number
      }[]
      reader.exec('BEGIN')
      const content = reader.prepare(query).all()
      const pageCount = Number(reader.pragma('page_count', { simple: true }))
      const walFrames = log === checkpointed ? 0 : log
      return { extent: { file, pageSize, pageCount, walFrames, isHeld }, content, release: () => { reader.close() } } // prettier-ignore
    }
    try {
      await work({ folder, file, writer, write, hold })
    } finally {
      writer.close()
    }
  })
}

const isHeld = (): boolean => true

async function readAll(
  extent: SnapshotExtent,
  [start, end]: readonly [number, number] = [0, extent.pageSize * extent.pageCount],
): Promise<Buffer> {
  const bytes = await SnapshotBytes.open(extent)
  try {
    return await buffer(bytes.stream(start, end, () => undefined))
  } finally {
    await bytes.close()
  }
}

/** Opens the bytes as a database by themselves: they must be whole and hold what the snapshot held. */
function assertIsSnapshot(folder: string, bytes: Buffer, content: readonly unknown[]): void {
  const copy = join(folder, 'copy.sqlite')
  writeFileSync(copy, bytes)
  const database = new Database(copy)
  assert.equal(database.pragma('integrity_check', { simple: true }), 'ok')
  assert.deepEqual(database.prepare(query).all(), content)
  database.close()
}

for (const pageSize of [512, 4096, 65536]) {
  test(`pages of ${String(pageSize)} bytes: a held snapshot keeps its bytes under writers and checkpoints`, () =>
    withDatabase(pageSize, async ({ folder, writer, write, hold }) => {
      for (let round = 1; round <= 6; round++) {
        write(round, 40)
        if (round % 3 === 0) writer.pragma('wal_checkpoint(TRUNCATE)')
        write(round + 100, round % 2 === 0 ? 0 : 25)
        const { extent, content, release } = hold()
        const early = await readAll(extent)
        write(round + 200, 60)
        writer.pragma('wal_checkpoint(PASSIVE)')
        write(round + 300, 60)
        const late = await readAll(extent)
        assertIsSnapshot(folder, early, content)
        assert.ok(early.equals(late), `round ${String(round)}: the bytes changed while the snapshot was held`)
        release()
      }
    }))
}

test('any range is that range of the whole', () =>
  withDatabase(4096, async ({ write, hold, writer }) => {
    write(1, 300)
    writer.pragma('wal_checkpoint(TRUNCATE)')
    write(2, 50)
    const { extent, release } = hold()
    assert.ok(extent.walFrames > 0)
    const whole = await readAll(extent)
    for (const [start, end] of [
      [0, 1],
      [0, 4096],
      [4095, 4097],
      [1, whole.length - 1],
      [whole.length - 1, whole.length],
      [12_345, 700_001],
    ] as const) {
      // prettier-ignore
      assert.ok((await readAll(extent, [start, end])).equals(whole.subarray(start, end)), `${String(start)} to ${String(end)}`)
    }
    release()
  }))

test('bytes read after the death of who held the snapshot fail the stream', () =>
  withDatabase(4096, async ({ write, hold }) => {
    write(1, 400)
    const { extent, release } = hold()
    let reads = 0
    const bytes = await SnapshotBytes.open({ ...extent, isHeld: () => ++reads < 2 })
    await assert.rejects(buffer(bytes.stream(0, bytes.size, () => undefined)), { code: 'ESTALE' })
    assert.equal(reads, 2)
    await bytes.close()
    release()
  }))

test('what cannot be read after that death is no damage', () =>
  withDatabase(4096, async ({ file, write, hold }) => {
    write(1, 400)
    const { extent, release } = hold()
    await assert.rejects(SnapshotBytes.open({ ...extent, walFrames: extent.walFrames + 1000, isHeld: () => false }), { code: 'ESTALE' })
    const bytes = await SnapshotBytes.open({ ...extent, isHeld: () => false })
    truncateSync(`${file}-wal`, 0)
    await assert.rejects(buffer(bytes.stream(0, bytes.size, () => undefined)), { code: 'ESTALE' })
    await bytes.close()
    release()
  }))

test('a main file that changes under a snapshot without WAL frames fails the stream', () =>
  withFolder(async (folder) => {
    const file = join(folder, 'plain')
    writeFileSync(file, Buffer.alloc(3 * 2 ** 20, 1))
    const bytes = await SnapshotBytes.open({ file, pageSize: 4096, pageCount: 768, walFrames: 0, isHeld })
    const fd = openSync(file, 'r+')
    writeSync(fd, 'x', 2 ** 21)
    closeSync(fd)
    utimesSync(file, 1, 1) // whatever the clock's resolution
    await assert.rejects(buffer(bytes.stream(0, bytes.size, () => undefined)), { code: 'EIO' })
    await bytes.close()
  }))

test('files that do not fit the snapshot are refused, never padded', () =>
  withDatabase(4096, async ({ file, write, hold }) => {
    write(1, 20)
    const { extent, release } = hold()
    const refused: readonly [string, Partial<SnapshotExtent>][] = [
      ['more frames than there are', { walFrames: extent.walFrames + 1000 }],
      ['an end that is no commit of that many pages', { pageCount: extent.pageCount + 1 }],
      ['another page size', { pageSize: 8192 }],
    ]
    for (const [what, change] of refused) await assert.rejects(SnapshotBytes.open({ ...extent, ...change }), { code: 'EIO' }, what)
    const { size } = statSync(file)
    await assert.rejects(readAll({ file, pageSize: 512, pageCount: size / 512 + 1, walFrames: 0, isHeld }), { code: 'EIO' })
    assert.equal(readFileSync(file).length, size)
    release()
  }))
