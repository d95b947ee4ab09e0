/**
 * Random and damaged requests to the dispatcher over a real volume: each is answered in the right form, or not at all when the kernel
 * expects nothing; nothing is thrown, and the volume's check is clean afterwards.
 * Replay a failure with the LITEVOL_SEED and LITEVOL_PATH that it prints; LITEVOL_PROPERTY_SECONDS sets how long (default 10).
 */
import assert from 'node:assert/strict'
import { copyFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { Volume, checkVolume, createVolumeFile } from '../../src/engine/index.ts'
import { opcodes } from '../../src/fuse/constants.ts'
import { Dispatcher } from '../../src/fuse/dispatcher.ts'
import { findOperation, operations, type Operation } from '../../src/fuse/operation-table.ts'
import { inHeader } from '../../src/fuse/wire.ts'
import { makeSharedFiles } from '../../src/mount/open-files.ts'
import { VolumeFilesystem } from '../../src/mount/volume-filesystem.ts'
import { assertProperty } from '../properties.ts'
import { withFolder } from '../support.ts'
import { replyOf, send } from './requests.ts'

/** A request before it is laid out. */
interface Request {
  readonly opcode: number
  readonly nodeid: bigint
  /** What stands in the struct, as words of 32 bits. */
  readonly words: readonly number[]
  readonly names: readonly string[]
  readonly data: number
  /** How much longer or shorter the message is than it should be, and than its header says. */
  readonly cut: number
  readonly lie: number
  readonly extensions: number
}

const oneOf = <T>(...values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values)

/** Words that make small numbers, flags, and 64-bit numbers at every border. */
const word = fc.oneof(
  { weight: 10, arbitrary: fc.constant(0) },
  { weight: 6, arbitrary: fc.nat({ max: 12 }) },
  {
    weight: 4,
    arbitrary: oneOf(0, 4096, 131072, 0o100644, 0o40755, 0o120777, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1f_ffff, 0x20_0000),
  },
  { weight: 1, arbitrary: fc.nat({ max: 0xffff_ffff }) },
)
const name = oneOf(
  'a',
  'a',
  'b',
  'b',
  'c',
  'd',
  '',
  '.',
  '..',
  'a/b',
  '\xff',
  'n'.repeat(255),
  'n'.repeat(256),
  'n'.repeat(9000),
  'user.a',
  'system.posix_acl_access',
)
const opcode = fc.oneof(
  { weight: 20, arbitrary: oneOf(...operations.map((operation) => operation.opcode)) },
  {
    weight: 10,
    arbitrary: oneOf(opcodes.CREATE, opcodes.MKDIR, opcodes.MKNOD, opcodes.WRITE, opcodes.SETATTR, opcodes.FALLOCATE, opcodes.RENAME2),
  },
  { weight: 1, arbitrary: oneOf(0, 7, 19, 51, 60, 4096, 0x7fff_ffff, 0xffff_ffff, 1 << 20) },
)
const request: fc.Arbitrary<Request> = fc.record(
  {
    opcode,
    nodeid: fc.oneof({ weight: 20, arbitrary: oneOf(1n, 1n, 1n, 3n, 3n, 4n, 4n, 5n, 6n, 7n, 0n, 2n) }, { weight: 1, arbitrary: oneOf(2n ** 32n, 2n ** 53n, 2n ** 64n - 1n) }),
    words: fc.array(word, { minLength: 22, maxLength: 22 }),
    names: fc.array(name, { minLength: 2, maxLength: 2 }),
    data: oneOf(0, 0, 1, 8, 12, 4096, 70_000, 1 << 20),
    cut: fc.oneof({ weight: 15, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: -100, max: 100 }) }),
    lie: fc.oneof({ weight: 30, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: oneOf(-1, 1, 40, 0x7fff_ffff) }),
    extensions: fc.oneof({ weight: 30, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: oneOf(1, 5, 0xffff) }),
  },
  { noNullPrototype: true },
) // prettier-ignore

/** Lays a request out at the start of the dispatcher's buffer; returns its length. */
function layOut(dispatcher: Dispatcher, { opcode, nodeid, words, names, data, cut, lie, extensions }: Request): number {
  const { buffer, view } = dispatcher.request
  const operation = findOperation(opcode)
  const struct = Buffer.from(new Uint32Array(words).buffer).subarray(0, operation?.structSize ?? 88)
  const text = names.slice(0, operation?.names ?? 0).map((each) => Buffer.from(`${each}\0`, 'latin1'))
  const body = Buffer.concat([struct, ...text, Buffer.alloc(data, 'data')])
  const length = Math.max(0, Math.min(buffer.length, inHeader.size + body.length + cut))
  const len = (length + lie) >>> 0
  inHeader.encode(view, 0, { len, opcode, nodeid: 0, uid: 1000, gid: 50, pid: 1, totalExtlen: extensions, padding: 0 })
  view.setBigUint64(16, nodeid, true)
  view.setUint32(8, words[0] ?? 0, true)
  view.setUint32(12, words[1] ?? 0, true)
  body.copy(buffer, inHeader.size)
  return length
}

/** Asserts the form of what came back. */
function assertForm(dispatcher: Dispatcher, length: number, replyLength: number, operation: Operation | undefined): void {
  const isExpected = length >= inHeader.size && operation?.isAnswered !== false
  assert.equal(replyLength > 0, isExpected, 'answered or not')
  const reply = replyOf(dispatcher, replyLength)
  if (reply === undefined) return
  assert.equal(reply.length, replyLength)
  assert.equal(reply.unique, dispatcher.request.view.getBigUint64(8, true))
  assert.ok(reply.error <= 0 && reply.error > -512, `error ${String(reply.error)}`)
  assert.notEqual(reply.error, -5, 'EIO says that the volume is damaged')
  if (reply.error !== 0) assert.equal(replyLength, 16)
  else if (operation?.replySize !== undefined) assert.equal(reply.payload.length, operation.replySize)
}

/** A dispatcher over a new volume; afterwards its check is clean. */
function withDispatcher(file: string, work: (dispatcher: Dispatcher) => void): void {
  const handlesFile = `${file}.handles`
  const onFault = (error: unknown): void => {
    throw error
  }
  const volume = Volume.open(file)
  const fs = new VolumeFilesystem(volume, {
    shared: makeSharedFiles(),
    handlesFile,
    recallsFile: `${file}.recalls`,
    isSuccessor: false,
    onFault,
  })
  try {
    work(new Dispatcher(fs, {}))
  } finally {
    fs.close()
    rmSync(handlesFile)
    volume.close()
  }
  assert.deepEqual(checkVolume(file, { deep: true }), [])
}

test('whatever a request says, it is answered in the right form and the volume stays whole', (context) =>
  withFolder((folder) => {
    const template = join(folder, 'template.sqlite')
    createVolumeFile(template, { mode: 0o777 })
    const codes = new Map<number, number>()
    const property = fc.property(fc.array(request, { maxLength: 200, size: 'max' }), (requests) => {
      const file = join(folder, 'volume.sqlite')
      copyFileSync(template, file)
      withDispatcher(file, (dispatcher) => {
        for (const each of requests) {
          const length = layOut(dispatcher, each)
          const replyLength = dispatcher.dispatch(length)
          assertForm(dispatcher, length, replyLength, findOperation(each.opcode))
          const error = replyOf(dispatcher, replyLength)?.error ?? 1
          codes.set(error, (codes.get(error) ?? 0) + 1)
        }
      })
    })
    assertProperty(property)
    const counted = [...codes].sort(([a], [b]) => b - a).map(([code, count]) => `${String(code)}: ${String(count)}`)
    context.diagnostic(`answers by errno (1: none) ${counted.join(', ')}`)
  }))

const u64 = (value: bigint): Buffer => Buffer.from(new BigUint64Array([BigInt.asUintN(64, value)]).buffer)
const u32 = (...values: number[]): Buffer => Buffer.from(new Uint32Array(values).buffer)
const fh = u64(1n)
const rest = (bytes: number): Buffer => Buffer.alloc(bytes)
const text = (value: string): Buffer => Buffer.from(`${value}\0`)

/** The file of 5 bytes that the rows below are about, and its fields at an offset. */
const file = 3
const read = (offset: bigint, size = 10): Buffer => Buffer.concat([fh, u64(offset), u32(size, 0), rest(16)])
const write = (offset: bigint): Buffer => Buffer.concat([fh, u64(offset), u32(3, 0), rest(16), Buffer.from('xyz')])
const resize = (size: bigint): Buffer => Buffer.concat([u32(1 << 3, 0), fh, u64(size), rest(64)])
const fallocate = (offset: bigint, length: bigint, mode: number): Buffer => Buffer.concat([fh, u64(offset), u64(length), u32(mode, 0)])
const seek = (offset: bigint, whence: number): Buffer => Buffer.concat([fh, u64(offset), u32(whence, 0)])
const copy = (from: bigint, to: bigint, length: bigint, flags = 0n): Buffer =>
  Buffer.concat([fh, u64(from), u64(BigInt(file)), fh, u64(to), u64(length), u64(flags)])
const [tooFar, limit, keepSize, punch, zeros] = [2n ** 53n, 2n ** 44n, 1, 3, 16]
const [EFBIG, EINVAL, ENXIO] = [-27, -22, -6]

const extremes: readonly (readonly [what: string, opcode: number, body: Buffer, error: number])[] = [
  ['a READ at -1', opcodes.READ, read(-1n), EFBIG],
  ['a READ at 2^63', opcodes.READ, read(2n ** 63n), EFBIG],
  ['a READ at 2^53 - 1', opcodes.READ, read(tooFar - 1n), 0],
  ['a READ of 2^32 - 1 bytes', opcodes.READ, read(0n, 2 ** 32 - 1), EINVAL],
  ['a WRITE at -1', opcodes.WRITE, write(-1n), EFBIG],
  ['a WRITE at 2^53 - 1', opcodes.WRITE, write(tooFar - 1n), EFBIG],
  ['a WRITE across the largest size', opcodes.WRITE, write(limit - 1n), EFBIG],
  ['a size of -1', opcodes.SETATTR, resize(-1n), EFBIG],
  ['a size past the largest', opcodes.SETATTR, resize(limit + 1n), EFBIG],
  ['an allocation at -1', opcodes.FALLOCATE, fallocate(-1n, 1n, 0), EFBIG],
  ['an allocation of -1 bytes', opcodes.FALLOCATE, fallocate(0n, -1n, 0), EFBIG],
  ['an allocation past the largest size', opcodes.FALLOCATE, fallocate(limit, 1n, 0), EFBIG],
  ['an allocation past the largest size that keeps the size', opcodes.FALLOCATE, fallocate(limit, 1n, keepSize), EFBIG],
  ['zeros past the largest size', opcodes.FALLOCATE, fallocate(limit, 1n, zeros), EFBIG],
  ['a hole past the end', opcodes.FALLOCATE, fallocate(tooFar - 1n, tooFar - 1n, punch), 0],
  ['a search for data at -1', opcodes.LSEEK, seek(-1n, 3), EFBIG],
  ['a search for data at the end', opcodes.LSEEK, seek(5n, 3), ENXIO],
  ['a search for a hole far past the end', opcodes.LSEEK, seek(tooFar - 1n, 4), ENXIO],
  ['an LSEEK by a whence that is the kernel\'s', opcodes.LSEEK, seek(0n, 0), EINVAL],
  ['a copy from -1', opcodes.COPY_FILE_RANGE, copy(-1n, 0n, 1n), EFBIG],
  ['a copy to past the largest size', opcodes.COPY_FILE_RANGE, copy(0n, limit, 1n), EFBIG],
  ['a copy of 2^64 - 1 bytes onto itself', opcodes.COPY_FILE_RANGE, copy(0n, 1n, -1n), EINVAL],
  ['a copy with a flag', opcodes.COPY_FILE_RANGE_64, copy(0n, 10n, 1n, 1n), EINVAL],
  ['a time of 2^32 - 1 nanoseconds', opcodes.SETATTR, Buffer.concat([u32(1 << 5, 0), fh, rest(40), u32(0, 2 ** 32 - 1, 0, 0, 0, 0, 0, 0)]), EINVAL],
] // prettier-ignore

for (const [what, opcode, body, error] of extremes) {
  test(`${what} is answered with ${String(error)} and the file stays as it was`, () =>
    withFolder((folder) => {
      const volumeFile = join(folder, 'volume.sqlite')
      createVolumeFile(volumeFile)
      withDispatcher(volumeFile, (dispatcher) => {
        send(dispatcher, opcodes.CREATE, Buffer.concat([u32(1, 0o100644, 0, 0), text('a')]))
        send(dispatcher, opcodes.WRITE, Buffer.concat([fh, u64(0n), u32(5, 0), rest(16), Buffer.from('hello')]), { nodeid: file })
        assert.equal(send(dispatcher, opcode, body, { nodeid: file })?.error, error)
        const { payload } = send(dispatcher, opcodes.READ, read(0n), { nodeid: file }) ?? assert.fail('not answered')
        assert.equal(payload.toString(), 'hello')
      })
    }))
}

test('times at the ends of 64 bits are cut to what a number holds exactly', () =>
  withFolder((folder) => {
    const volumeFile = join(folder, 'volume.sqlite')
    createVolumeFile(volumeFile)
    withDispatcher(volumeFile, (dispatcher) => {
      const body = Buffer.concat([u32((1 << 4) | (1 << 5), 0), fh, rest(16), u64(2n ** 63n - 1n), u64(-(2n ** 63n)), rest(40)])
      const reply = send(dispatcher, opcodes.SETATTR, body) ?? assert.fail('not answered')
      assert.equal(reply.error, 0)
      assert.deepEqual([reply.payload.readBigInt64LE(16 + 24), reply.payload.readBigInt64LE(16 + 32)], [tooFar - 1n, 1n - tooFar])
    })
  }))

test('a umask takes permissions away, never the type of what is made', () =>
  withFolder((folder) => {
    const volumeFile = join(folder, 'volume.sqlite')
    createVolumeFile(volumeFile)
    withDispatcher(volumeFile, (dispatcher) => {
      const make = (mode: number): number | undefined =>
        send(dispatcher, opcodes.MKNOD, Buffer.concat([u32(mode, 0, 0xffff_ffff, 0), text('a')]))?.error
      assert.equal(make(0o170777), EINVAL)
      assert.equal(make(0o100777), 0)
    })
  }))
