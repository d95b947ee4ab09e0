/** Digests by a second thread: the answers are those of the bytes, with it, without it, and when it hangs. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { crc32 } from 'node:zlib'
import { Volume, createVolumeFile, type DigestMemory } from '../../src/engine/index.ts'
import { checksum } from '../../src/engine/checksums.ts'
import { decodePiece, encodePiece } from '../../src/engine/codec.ts'
import { Digests } from '../../src/engine/digests.ts'
import { assertClean, seededBytes, seededNumbers, until, withFolder } from '../support.ts'

const blockSize = 131072
const threadUrl = new URL('../../src/engine/digest-thread.ts', import.meta.url)
const hexOf = (content: Buffer): string => createHash('sha256').update(content).digest('hex')

/** Memory with seeded bytes, and the blocks that it consists of. */
function blocksOf(seed: number, count: number): { memory: SharedArrayBuffer; all: Buffer; blocks: Buffer[] } {
  const memory = new SharedArrayBuffer(count * blockSize)
  const all = Buffer.from(memory)
  seededBytes(seed, all.length).copy(all)
  return { memory, all, blocks: Array.from({ length: count }, (_, n) => all.subarray(n * blockSize, (n + 1) * blockSize)) }
}

/** Has the thread answer messages, which it can when its event loop turns. */
const answering = "import { parentPort } from 'node:worker_threads'; parentPort.on('message', (m) => parentPort.postMessage(m)).unref()"

async function withHelper<T>(memory: DigestMemory, work: (thread: Worker) => T | Promise<T>): Promise<T> {
  const thread = new Worker(threadUrl, { workerData: memory, execArgv: ['--import', `data:text/javascript,${answering}`] })
  try {
    const words = new Int32Array(memory.board)
    await until('the helper is there', () => Atomics.load(words, 1) === 1)
    return await work(thread)
  } finally {
    await thread.terminate()
  }
}

function assertDigests(digests: Digests, blocks: readonly Buffer[]): void {
  for (const block of blocks) {
    assert.equal(digests.address(block).toString('hex'), hexOf(block))
    for (const [piece, found] of (digests.checksums(block) ?? []).entries()) {
      assert.equal(found >>> 0, crc32(block.subarray(piece * 16384, (piece + 1) * 16384)))
    }
  }
}

test('a second thread answers what is expected, whoever comes first, and memory may change once it is forgotten', async () => {
  const { memory, all, blocks } = blocksOf(1, 8)
  const digests = new Digests()
  await withHelper(digests.share([memory]), () => {
    const random = seededNumbers(2)
    for (let round = 0; round < 200; round++) {
      for (const block of blocks) block.writeUInt32LE(random(), random() % (blockSize - 4))
      digests.expect(0, all)
      if (round % 3 === 0) assertDigests(digests, blocks)
      if (round % 3 === 1) assertDigests(digests, blocks.toReversed())
      digests.forget(all) // in every third round nothing was asked for
    }
    digests.expect(0, all)
    assert.notEqual(digests.checksums(blocks[5] ?? Buffer.alloc(0)), undefined)
    digests.forget(all)
    assert.equal(digests.checksums(blocks[5] ?? Buffer.alloc(0)), undefined, 'not expected any more')
  })
})

test('without a helper, for other memory, and for more than the board holds the answers are the same', async () => {
  const { memory, all, blocks } = blocksOf(3, 40)
  const digests = new Digests()
  digests.expect(0, all)
  assertDigests(digests, blocks)
  digests.forget(all)
  await withHelper(digests.share([memory]), () => {
    for (const strange of [seededBytes(4, blockSize), seededBytes(5, 1000)]) {
      digests.expect(0, strange)
      assertDigests(digests, [strange])
      digests.forget(strange)
    }
    digests.expect(0, all)
    assertDigests(digests, blocks)
    digests.forget(all)
  })
})

test('a helper that is slow or hangs is not waited for, and what it finds too late is not looked at', () => {
  const { memory, all, blocks } = blocksOf(6, 3)
  const [, second] = blocks as [Buffer, Buffer, Buffer]
  const digests = new Digests()
  const { board } = digests.share([memory])
  const words = new Int32Array(board)
  Atomics.store(words, 1, 1) // one is there,
  const rest = all.subarray(blockSize)
  digests.expect(blockSize, rest)
  const claimed = words.findIndex((word, at) => at >= 16 && word === 0)
  Atomics.store(words, claimed, 1) // has begun with the second,
  assertDigests(digests, blocks)
  assert.equal(digests.checksums(second), undefined, 'it is not done')
  digests.forget(rest)
  second.fill(1)
  digests.expect(blockSize, rest)
  words.fill(7, claimed + 1, claimed + 20) // and is done when the second has changed
  Atomics.store(words, claimed, 2)
  assertDigests(digests, blocks)
  assert.notEqual(digests.checksums(second), undefined)
  digests.forget(rest)
  digests.expect(0, all)
  assert.equal(Atomics.load(words, claimed), 0, 'its place is used again')
  assertDigests(digests, blocks)
})

test('what is expected of one request stays when another is forgotten, and each may be expected twice', async () => {
  const { memory, all, blocks } = blocksOf(9, 17)
  const [first, second] = [all.subarray(0, 8 * blockSize + 100), all.subarray(8 * blockSize + 100)]
  const digests = new Digests()
  await withHelper(digests.share([memory]), async () => {
    for (let round = 0; round < 50; round++) {
      digests.expect(0, first)
      digests.expect(blockSize - 100, second) // 100 bytes of it end a block
      digests.expect(0, first)
      assertDigests(digests, blocks.slice(0, 8))
      digests.forget(first)
      first.writeUInt32LE(round, blockSize)
      assert.equal(digests.checksums(blocks[1] ?? all), undefined)
      const ofSecond = Array.from({ length: 8 }, (_, n) => second.subarray(100 + n * blockSize, 100 + (n + 1) * blockSize))
      assertDigests(digests, ofSecond)
      for (const block of ofSecond) await until('somebody is done with it', () => digests.checksums(block) !== undefined)
      digests.expect(0, first)
      assertDigests(digests, blocks.slice(0, 8))
      digests.forget(all)
      second.writeUInt32LE(round, 5 * blockSize)
    }
  })
})

test('a piece that is encoded by its plain checksum is the same as by its bytes', () => {
  const random = seededNumbers(7)
  for (let round = 0; round < 300; round++) {
    const piece = seededBytes(round, round % 3 === 0 ? 16384 : 1 + (random() % 16384))
    const id = random() * (round % 2 === 0 ? 1 : 2 ** 20)
    const encoded = encodePiece(id, piece, checksum(piece))
    assert.deepEqual(encoded, encodePiece(id, piece))
    assert.ok(decodePiece(id, [encoded.codec, encoded.crc, encoded.data]).equals(piece))
  }
})

test('what is written with a helper is read as written, and equal content is stored once', () =>
  withFolder(async (folder) => {
    const file = join(folder, 'v.sqlite')
    createVolumeFile(file)
    const volume = Volume.open(file)
    const memory = new SharedArrayBuffer(1 << 20)
    const request = Buffer.from(memory)
    const { ino } = volume.create(volume.root, Buffer.from('file'), { uid: 0, gid: 0, mode: 0o100644 })
    const random = seededNumbers(8)
    const expected = Buffer.alloc(8 << 20)
    await withHelper(volume.digests.share([memory]), () => {
      for (let round = 0; round < 60; round++) {
        const length = 1 + (random() % request.length)
        const offset = random() % (expected.length - length)
        const data = request.subarray(0, length)
        seededBytes(round % 4, length).copy(data)
        data.copy(expected, offset)
        volume.write(ino, offset, data, { keepTimes: false, killPrivileges: false })
      }
    })
    const { size } = volume.get(ino)
    const into = Buffer.alloc(size)
    assert.equal(volume.read(ino, 0, into), size)
    assert.ok(into.equals(expected.subarray(0, size)))
    volume.close()
    assertClean(file)
  }))

test('the second thread lets its event loop turn now and then, in which V8 gives back what it has put off', async () => {
  const { memory, all } = blocksOf(11, 1)
  const digests = new Digests()
  await withHelper(digests.share([memory]), async (thread) => {
    const asked = { isAnswered: false }
    thread.once('message', () => (asked.isAnswered = true))
    thread.postMessage('who is there?')
    await until(
      'its event loop has turned',
      () => {
        for (let i = 0; i < 100; i++) {
          digests.expect(0, all)
          while (digests.checksums(all) === undefined);
          digests.forget(all)
        }
        return asked.isAnswered
      },
      60_000,
    )
  })
})
