import assert from 'node:assert/strict'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import type { Ino } from '../../src/base/index.ts'
import { blockSize, maximumFileSize, readVolumeState, type Volume } from '../../src/engine/index.ts'
import { piecesPerChunk } from '../../src/engine/schema.ts'
import { assertErrno, makeFile, readAll, seededBytes, seededNumbers, withVolume } from '../support.ts'

const writing = { keepTimes: false, killPrivileges: false }

const count = (file: string, table: string): number => {
  const connection = new Database(file)
  try {
    return Number(connection.prepare(`SELECT count(*) FROM ${table}`).pluck().get())
  } finally {
    connection.close()
  }
}

test('what was written is read, across blocks and at odd offsets', () =>
  withVolume((volume) => {
    const ino = makeFile(volume, volume.root, 'a')
    const content = seededBytes(1, 3 * blockSize + 12345)
    volume.write(ino, 77, content, writing)
    assert.equal(volume.get(ino).size, 77 + content.length)
    assert.ok(readAll(volume, ino).equals(Buffer.concat([Buffer.alloc(77), content])))
  }))

test('equal content is stored once, and gone with its last user', () =>
  withVolume((volume, file) => {
    const content = seededBytes(2, 2 * blockSize)
    const inos = ['a', 'b', 'c'].map((name) => makeFile(volume, volume.root, name, content))
    assert.equal(count(file, 'chunks'), 2)
    for (const [i, name] of ['a', 'b', 'c'].entries()) {
      volume.unlink(volume.root, Buffer.from(name))
      volume.collect([inos[i] as Ino])
      assert.equal(count(file, 'pieces'), i < 2 ? 2 * piecesPerChunk : 0)
    }
  }))

test('a copy counts a chunk as often as its blocks name it, also where some name the same', () =>
  withVolume((volume) => {
    const block = (seed: number): Buffer => seededBytes(seed, blockSize)
    const ino = makeFile(volume, volume.root, 'source', Buffer.concat([1, 2, 1, 3, 1, 2, 4].map(block)))
    const copy = makeFile(volume, volume.root, 'copy', Buffer.alloc(0))
    volume.copyRange(ino, 0, copy, 0, 7 * blockSize)
    volume.copyRange(copy, blockSize, copy, 20 * blockSize, 4 * blockSize)
    assert.ok(
      readAll(volume, copy)
        .subarray(20 * blockSize)
        .equals(Buffer.concat([2, 1, 3, 1].map(block))),
    )
    volume.unlink(volume.root, Buffer.from('source'))
    volume.collect([ino])
    assert.ok(
      readAll(volume, copy)
        .subarray(0, 7 * blockSize)
        .equals(Buffer.concat([1, 2, 1, 3, 1, 2, 4].map(block))),
    )
  }))

test('a sparse file takes no space for its holes and reads zeros there', () =>
  withVolume((volume) => {
    const ino = makeFile(volume, volume.root, 'a')
    volume.write(ino, 10 * 2 ** 40, Buffer.from('far'), writing)
    assert.deepEqual([volume.get(ino).size, volume.get(ino).stored], [10 * 2 ** 40 + 3, 3])
    const hole = Buffer.alloc(100, 1)
    assert.equal(volume.read(ino, 5 * 2 ** 40, hole), 100)
    assert.ok(hole.equals(Buffer.alloc(100)))
  }))

test('truncate cuts and frees, and what grows again is zeros', () =>
  withVolume((volume) => {
    const content = seededBytes(3, 2 * blockSize)
    const ino = makeFile(volume, volume.root, 'a', content)
    volume.setAttributes(ino, { size: 1000 })
    assert.equal(volume.get(ino).stored, 1000)
    volume.setAttributes(ino, { size: 5000 })
    assert.ok(readAll(volume, ino).equals(Buffer.concat([content.subarray(0, 1000), Buffer.alloc(4000)])))
  }))

test('a write past the size limit is EFBIG and changes nothing', () =>
  withVolume((volume) => {
    const ino = makeFile(volume, volume.root, 'a', 'abc')
    assertErrno('EFBIG', () => {
      volume.write(ino, maximumFileSize - 1, Buffer.from('xy'), writing)
    })
    assertErrno('EFBIG', () => volume.setAttributes(ino, { size: maximumFileSize + 1 }))
    assert.equal(readAll(volume, ino).toString(), 'abc')
  }))

test('a write of nothing changes nothing, wherever it is', () =>
  withVolume((volume) => {
    const ino = makeFile(volume, volume.root, 'a', 'abc')
    volume.setAttributes(ino, { mode: 0o4755 })
    const before = volume.get(ino)
    volume.write(ino, 1000, Buffer.alloc(0), { keepTimes: false, killPrivileges: true })
    assert.deepEqual(volume.get(ino), before)
  }))

test('small writes into one block are folded: its extents stay few', () =>
  withVolume((volume, file) => {
    const content = seededBytes(4, blockSize)
    const ino = makeFile(volume, volume.root, 'a')
    for (let at = 0; at < blockSize; at += 4096) volume.write(ino, at, content.subarray(at, at + 4096), writing)
    assert.ok(count(file, 'extents') <= 17)
    assert.ok(readAll(volume, ino).equals(content))
  }))

test('a part of what one file alone has is written over in its place; what another has as well is not', () =>
  withVolume((volume, file) => {
    const content = seededBytes(5, 2 * blockSize)
    const ino = makeFile(volume, volume.root, 'a', content)
    const random = seededNumbers(5)
    const change = (): void => {
      const at = random() % (content.length - 1)
      const length = Math.min(content.length - at, 1 + (random() % 40_000))
      const data = seededBytes(random(), length)
      volume.write(ino, at, data, writing)
      data.copy(content, at)
    }
    for (let round = 0; round < 100; round++) {
      change()
      assert.deepEqual([count(file, 'extents'), count(file, 'chunks')], [2, 2])
      assert.ok(readAll(volume, ino).equals(content), String(round))
    }
    const copied = Buffer.from(content)
    const copy = makeFile(volume, volume.root, 'copy')
    volume.copyRange(ino, 0, copy, 0, content.length)
    assert.equal(count(file, 'chunks'), 2)
    for (let round = 0; round < 100; round++) {
      change()
      assert.ok(readAll(volume, ino).equals(content), String(round))
      assert.ok(readAll(volume, copy).equals(copied), String(round))
    }
    volume.write(copy, 100, Buffer.from('new'), writing)
    copied.write('new', 100)
    assert.ok(readAll(volume, copy).equals(copied))
  }))

test('pages of a database are replaced in their place, whole blocks by their content, and what a copy has as well is kept', () =>
  withVolume((volume, file) => {
    const addresses = (): number[] => {
      const connection = new Database(file)
      try {
        return connection.prepare<[], number>('SELECT length(address) FROM chunks ORDER BY id').pluck(true).all()
      } finally {
        connection.close()
      }
    }
    const pages = [1, 2, 3].map((seed) => seededBytes(seed, 4096))
    const ino = makeFile(volume, volume.root, 'database')
    for (const [n, page] of pages.entries()) volume.write(ino, n * 4096, page, writing)
    const before = Buffer.concat(pages)
    for (let round = 0; round < 20; round++) {
      const n = round % 2
      const page = seededBytes(100 + round, 4096)
      page.copy((pages[n] ??= page))
      volume.write(ino, n * 4096, page, writing)
      assert.ok(readAll(volume, ino).equals(Buffer.concat(pages)))
    }
    assert.deepEqual(addresses(), [8, 8, 32], 'three chunks as before, two of them without a name')
    assert.ok(!before.equals(Buffer.concat(pages)))
    const copy = makeFile(volume, volume.root, 'copy')
    volume.copyRange(ino, 0, copy, 0, 3 * 4096)
    const copied = readAll(volume, copy)
    volume.write(ino, 0, seededBytes(7, 4096), writing)
    assert.ok(readAll(volume, copy).equals(copied))
    const large = makeFile(volume, volume.root, 'large', seededBytes(8, blockSize))
    volume.write(large, 0, seededBytes(9, blockSize), writing)
    const chunks = count(file, 'chunks')
    makeFile(volume, volume.root, 'equal', seededBytes(9, blockSize))
    assert.equal(count(file, 'chunks'), chunks)
  }))

test('equal content does not find a chunk that was changed since it was stored', () =>
  withVolume((volume) => {
    const content = seededBytes(6, blockSize)
    const changed = Buffer.from(content)
    changed.write('changed', 70_000)
    const ino = makeFile(volume, volume.root, 'a', content)
    volume.write(ino, 70_000, Buffer.from('changed'), writing)
    const inos = [content, changed].map((bytes, i) => makeFile(volume, volume.root, `b${String(i)}`, bytes))
    assert.ok(readAll(volume, ino).equals(changed))
    for (const [i, bytes] of [content, changed].entries()) assert.ok(readAll(volume, inos[i] as Ino).equals(bytes))
  }))

test('what a rolled back change wrote over is read as it was', () =>
  withVolume((volume, file) => {
    const content = seededBytes(7, blockSize)
    const ino = makeFile(volume, volume.root, 'a', content)
    const connection = new Database(file)
    connection.exec("CREATE TRIGGER refuse BEFORE UPDATE ON state BEGIN SELECT RAISE(FAIL, 'refused'); END")
    assert.throws(() => volume.write(ino, 5000, Buffer.from('new'), writing))
    connection.exec('DROP TRIGGER refuse')
    connection.close()
    assert.ok(readAll(volume, ino).equals(content))
  }))

test('a write beside damaged bytes is kept: they stay as they are, and are refused as before', () =>
  withVolume((volume, file) => {
    const content = seededBytes(8, blockSize)
    const ino = makeFile(volume, volume.root, 'a', content)
    new Database(file).exec('UPDATE pieces SET crc = crc - 1 WHERE id = 9').close()
    const at = (n: number): number => 20_000 + n * 500
    for (let n = 0; n < 20; n++) volume.write(ino, at(n), Buffer.from(`written ${String(n)}`), writing)
    for (let n = 0; n < 20; n++) {
      const text = `written ${String(n)}`
      const into = Buffer.alloc(text.length)
      volume.read(ino, at(n), into)
      assert.equal(into.toString(), text)
    }
    assertErrno('EIO', () => volume.read(ino, 19_000, Buffer.alloc(10)))
    volume.write(ino, 0, content, writing)
    assert.ok(readAll(volume, ino).equals(content))
  }))

test('a write over a piece that is missing is kept, whole or a part of it', () =>
  withVolume((volume, file) => {
    const content = seededBytes(9, blockSize)
    const ino = makeFile(volume, volume.root, 'a', content)
    for (const [piece, start, length] of [
      [1, 16_384, 16_384],
      [2, 40_000, 100],
      [3, 49_152, 16_384],
    ] as const) {
      new Database(file).exec(`DELETE FROM pieces WHERE id = ${String(piecesPerChunk + piece)}`).close()
      const data = seededBytes(piece, length)
      volume.write(ino, start, data, writing)
      const into = Buffer.alloc(length)
      volume.read(ino, start, into)
      assert.ok(into.equals(data), String(piece))
    }
    volume.write(ino, 0, content, writing)
    assert.ok(readAll(volume, ino).equals(content))
  }))

test('a chunk goes with all its pieces, whatever its damaged size says', () =>
  withVolume((volume, file) => {
    const ino = makeFile(volume, volume.root, 'a', seededBytes(10, blockSize))
    new Database(file).exec('UPDATE chunks SET size = 1').close()
    volume.unlink(volume.root, Buffer.from('a'))
    volume.collect([ino])
    assert.deepEqual([count(file, 'chunks'), count(file, 'pieces')], [0, 0])
  }))

test('a write by somebody else clears setuid and, with group execution, setgid', () =>
  withVolume((volume) => {
    const ino = makeFile(volume, volume.root, 'a')
    volume.setAttributes(ino, { mode: 0o6755 })
    volume.write(ino, 0, Buffer.from('x'), { keepTimes: true, killPrivileges: true })
    assert.equal(volume.get(ino).mode & 0o7777, 0o755)
  }))

test('a write from the write-back cache leaves the times to the kernel', () =>
  withVolume((volume) => {
    const ino = makeFile(volume, volume.root, 'a')
    volume.setAttributes(ino, { mtime: { sec: -5, nsec: 7 } })
    volume.write(ino, 0, Buffer.from('x'), { keepTimes: true, killPrivileges: false })
    assert.deepEqual(volume.get(ino).mtime, { sec: -5, nsec: 7 })
  }))

/** One random change, made to the volume and to the plain buffer alike. */
function change(volume: Volume, ino: Ino, model: Buffer, next: () => number): Buffer {
  const limit = 5 * blockSize
  const offset = next() % limit
  if (next() % 6 === 0) {
    volume.setAttributes(ino, { size: offset })
    return Buffer.concat([model.subarray(0, offset), Buffer.alloc(Math.max(0, offset - model.length))])
  }
  const data = seededBytes(next(), 1 + (next() % (next() % 4 === 0 ? 3 * blockSize : 6000)))
  volume.write(ino, offset, data, writing)
  const grown = Buffer.concat([model, Buffer.alloc(Math.max(0, offset + data.length - model.length))])
  data.copy(grown, offset)
  return grown
}

for (const seed of [11, 12, 13]) {
  test(`random writes and truncates match a plain buffer (seed ${String(seed)})`, () =>
    withVolume((volume) => {
      const next = seededNumbers(seed)
      const ino = makeFile(volume, volume.root, 'a')
      let model: Buffer = Buffer.alloc(0)
      for (let step = 0; step < 300; step++) {
        model = change(volume, ino, model, next)
        if (step % 10 === 0) assert.ok(readAll(volume, ino).equals(model), `step ${String(step)}`)
      }
      assert.ok(readAll(volume, ino).equals(model))
    }))
}

test('a file that takes the place of a deleted one lies in order on the disk, as the first one did', () =>
  withVolume((volume, file) => {
    for (let generation = 0; generation < 5; generation++) {
      const ino = makeFile(volume, volume.root, 'a')
      for (let at = 0; at < 40 << 20; at += 1 << 20) volume.write(ino, at, seededBytes(generation * 100 + at, 1 << 20), writing)
      assert.ok(shareInOrder(file) > 0.7, `generation ${String(generation)}: ${String(shareInOrder(file))}`)
      volume.unlink(volume.root, Buffer.from('a'))
      volume.collect([ino])
    }
  }))

/** Of the pages of content, in the order in which they are read, how many come soon behind one that was read before: what a disk has read ahead. */
function shareInOrder(file: string): number {
  const connection = new Database(file)
  const select = "SELECT pageno FROM dbstat WHERE name = 'pieces' AND pagetype = 'overflow' ORDER BY path"
  const pages = connection.prepare<[], number>(select).pluck().all()
  connection.close()
  const seen = new Set<number>()
  const isAhead = (page: number): boolean => {
    seen.add(page)
    return [1, 2, 3, 4].some((gap) => seen.has(page - gap))
  }
  return pages.filter(isAhead).length / pages.length
}

test('deleting gives space back: a new file takes the place of a deleted one', () =>
  withVolume((volume, file) => {
    const sizes: number[] = []
    for (let round = 0; round < 4; round++) {
      const ino = makeFile(volume, volume.root, 'a', seededBytes(100 + round, 40 * blockSize))
      volume.unlink(volume.root, Buffer.from('a'))
      volume.collect([ino])
      sizes.push(readVolumeState(file).sizeBytes)
    }
    assert.ok(Math.max(...sizes) <= (sizes[0] ?? 0) * 1.02, `bytes of the file after each round: ${sizes.join(' ')}`)
  }))
