/** The dispatcher without a kernel: replies bit by bit, errors, and random bytes. */
import assert, { AssertionError } from 'node:assert/strict'
import { describe, it } from 'node:test'
import { makeLogger } from '../../src/base/index.ts'
import type { Logger } from '../../src/base/index.ts'
import { opcodes } from '../../src/fuse/constants.ts'
import { Dispatcher } from '../../src/fuse/dispatcher.ts'
import { findOperation, operations } from '../../src/fuse/operation-table.ts'
import { CACHE_SECONDS } from '../../src/fuse/replies.ts'
import { alignRecord, entryOut, inHeader } from '../../src/fuse/wire.ts'
import { MemoryFilesystem } from './memory-filesystem.ts'
import { replyOf, seeded, send } from './requests.ts'

const u32 = (...values: number[]): Buffer => Buffer.from(new Uint32Array(values).buffer)
const u64 = (value: bigint): Buffer => Buffer.from(new BigUint64Array([value]).buffer)
const text = (value: string): Buffer => Buffer.from(`${value}\0`, 'latin1')
const readIn = (offset: bigint, size: number): Buffer => Buffer.concat([u64(0n), u64(offset), u32(size, 0, 0, 0, 0, 0)])
const create = (name: string): Buffer => Buffer.concat([u32(0, 0o100644, 0, 0), text(name)])

describe('operation table', () => {
  it('has one row for each opcode', () => {
    assert.deepEqual(operations.map(({ name }) => name).sort(), Object.keys(opcodes).sort())
    for (const [name, opcode] of Object.entries(opcodes)) assert.equal(findOperation(opcode)?.name, name)
  })

  it('answers all but FORGET, BATCH_FORGET, INTERRUPT and NOTIFY_REPLY', () => {
    const silent = operations.filter(({ isAnswered }) => !isAnswered).map(({ name }) => name)
    assert.deepEqual(silent.sort(), ['BATCH_FORGET', 'FORGET', 'INTERRUPT', 'NOTIFY_REPLY'])
  })

  it('gives a reason for every operation that is not served', () => {
    for (const { name, opcode, reason, structSize } of operations.filter((operation) => operation.reason !== undefined)) {
      assert.ok((reason ?? '').length > 10, name)
      const reply = send(new Dispatcher(new MemoryFilesystem(), {}), opcode, Buffer.alloc(structSize))
      assert.equal(reply?.error, name === 'NOTIFY_REPLY' ? undefined : -38, name)
    }
  })
})

describe('replies', () => {
  it('a name that is not there is a negative entry with its time', () => {
    const reply = send(new Dispatcher(new MemoryFilesystem(), {}), opcodes.LOOKUP, text('absent'))
    assert.equal(reply?.error, 0)
    assert.equal(reply.payload.toString('hex', 0, 40), '00'.repeat(16) + '8051010000000000'.repeat(2) + '00'.repeat(8))
    assert.equal(CACHE_SECONDS, 0x15180)
  })

  it('unique returns bit for bit, resent ones too', () => {
    const dispatcher = new Dispatcher(new MemoryFilesystem(), {})
    for (const unique of [2n, 0x8000_0000_0000_000an, 0xffff_ffff_ffff_fffen]) {
      assert.equal(send(dispatcher, opcodes.GETATTR, Buffer.alloc(16), { unique })?.unique, unique)
      assert.equal(send(dispatcher, 4000, Buffer.alloc(16), { unique })?.unique, unique)
    }
  })

  it('what is written is read back out of the reply buffer', () => {
    const dispatcher = new Dispatcher(new MemoryFilesystem(), {})
    const created = send(dispatcher, opcodes.CREATE, create('f'))
    assert.equal(created?.payload.length, 144)
    assert.equal(created.payload.readUInt32LE(136), 2, 'FOPEN_KEEP_CACHE')
    const nodeid = created.payload.readUInt32LE(0)
    const data = Buffer.from('hello')
    const written = send(dispatcher, opcodes.WRITE, Buffer.concat([readIn(3n, data.length), data]), { nodeid })
    assert.equal(written?.payload.toString('hex'), '0500000000000000')
    assert.equal(send(dispatcher, opcodes.READ, readIn(0n, 100), { nodeid })?.payload.toString(), '\0\0\0hello')
  })

  it('READDIR fills no more than asked for and goes on at the cookie', () => {
    const dispatcher = new Dispatcher(new MemoryFilesystem(), {})
    for (let i = 0; i < 50; i++) send(dispatcher, opcodes.CREATE, create(`file-${i}`))
    const names: string[] = []
    let cookie = 0n
    for (;;) {
      const { payload } = send(dispatcher, opcodes.READDIR, readIn(cookie, 200)) ?? assert.fail('not answered')
      if (payload.length === 0) break
      assert.ok(payload.length <= 200)
      for (let at = 0; at < payload.length;) {
        const namelen = payload.readUInt32LE(at + 16)
        names.push(payload.toString('latin1', at + 24, at + 24 + namelen))
        cookie = payload.readBigUInt64LE(at + 8)
        at += alignRecord(24 + namelen)
      }
    }
    assert.deepEqual(names, ['.', '..', ...Array.from({ length: 50 }, (_, i) => `file-${i}`)])
  })

  it('READDIRPLUS counts an nlookup only for what is in the reply', () => {
    const fs = new MemoryFilesystem()
    const dispatcher = new Dispatcher(fs, {})
    for (let i = 0; i < 10; i++) send(dispatcher, opcodes.CREATE, create(`file-${i}`))
    const size = 2 * alignRecord(152 + 2) + 3 * alignRecord(152 + 6)
    const { payload } = send(dispatcher, opcodes.READDIRPLUS, readIn(0n, size)) ?? assert.fail('not answered')
    assert.equal(payload.length, size)
    assert.equal(payload.readUInt32LE(0), 0, 'nodeid of .')
    assert.equal(payload.readUInt32LE(2 * alignRecord(entryOut.size + 26)), 2, 'nodeid of the first file')
    assert.deepEqual(
      [...fs.nodes.values()].map(({ nlookup }) => nlookup),
      [0, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1],
    )
  })

  it('SETATTR takes times before 1970 and NOW, and only the fields that are valid', () => {
    const fs = new MemoryFilesystem()
    const dispatcher = new Dispatcher(fs, {})
    const body = Buffer.alloc(88)
    body.writeUInt32LE((1 << 4) | (1 << 8) | (1 << 5), 0)
    body.writeBigInt64LE(-5n, 32)
    body.writeUInt32LE(7, 56)
    const before = Math.floor(Date.now() / 1000)
    const reply = send(dispatcher, opcodes.SETATTR, body)
    assert.equal(reply?.payload.readBigInt64LE(16 + 24), -5n)
    assert.equal(reply.payload.readUInt32LE(16 + 48), 7)
    assert.ok(reply.payload.readBigInt64LE(16 + 32) >= BigInt(before))
    assert.equal(reply.payload.readUInt32LE(16 + 60), 0o40755, 'the mode stays')
  })

  it('GETXATTR tells the size, then the value, or ERANGE', () => {
    const dispatcher = new Dispatcher(new MemoryFilesystem(), {})
    send(dispatcher, opcodes.SETXATTR, Buffer.concat([u32(3, 0, 0, 0), text('user.a'), Buffer.from('xyz')]))
    const get = (size: number) => send(dispatcher, opcodes.GETXATTR, Buffer.concat([u32(size, 0), text('user.a')]))
    assert.equal(get(0)?.payload.toString('hex'), '0300000000000000')
    assert.equal(get(3)?.payload.toString(), 'xyz')
    assert.equal(get(2)?.error, -34)
  })
})

describe('bad requests', () => {
  const cases: [what: string, opcode: number, body: Buffer, options: object, error: number | undefined][] = [
    ['an unknown opcode', 4095, Buffer.alloc(0), {}, -38],
    ['a struct cut short', opcodes.READ, Buffer.alloc(39), {}, -22],
    ['a name without its end', opcodes.LOOKUP, Buffer.from('abc'), {}, -22],
    ['a second name missing', opcodes.SYMLINK, text('abc'), {}, -22],
    ['a length that is not that of the message', opcodes.GETATTR, Buffer.alloc(16), { len: 1000 }, -22],
    ['fewer data than announced', opcodes.WRITE, readIn(0n, 500), {}, -22],
    ['a read larger than a reply', opcodes.READ, readIn(0n, 1 << 30), {}, -22],
    ['an offset past 2^53 - 1', opcodes.READ, readIn(2n ** 60n, 10), {}, -27],
    ['a stale nodeid', opcodes.GETATTR, Buffer.alloc(16), { nodeid: 99 }, -116],
    ['a FORGET cut short', opcodes.FORGET, Buffer.alloc(1), {}, undefined],
    ['an INIT of an old protocol', opcodes.INIT, u32(7, 12, 0, 0), {}, -71],
  ]
  for (const [what, opcode, body, options, error] of cases) {
    it(`${what} is answered with ${error ?? 'nothing'}`, () => {
      const reply = send(new Dispatcher(new MemoryFilesystem(), {}), opcode, body, options)
      assert.equal(reply?.error, error)
      if (reply !== undefined) assert.equal(reply.length, 16)
    })
  }

  it('a request shorter than its header is not answered', () => {
    assert.equal(new Dispatcher(new MemoryFilesystem(), {}).dispatch(12), 0)
  })

  it('a foreign exception is EIO and logged with operation and unique', () => {
    const fs = new MemoryFilesystem()
    fs.statfs = () => {
      throw new TypeError('a fault on purpose')
    }
    const logged: object[] = []
    const logger = {
      ...makeLogger('test', 'silent'),
      isLevelEnabled: () => false,
      error: (facts: object) => void logged.push(facts),
    } as unknown as Logger
    const reply = send(new Dispatcher(fs, { logger }), opcodes.STATFS, Buffer.alloc(0), { unique: 0x8000_0000_0000_000an })
    assert.equal(reply?.error, -5)
    assert.partialDeepStrictEqual(logged, [{ operation: 'STATFS', unique: '10*' }])
  })

  it('a broken invariant is answered with EIO and thrown on', () => {
    const fs = new MemoryFilesystem()
    fs.statfs = () => assert.fail('an invariant')
    const dispatcher = new Dispatcher(fs, {})
    assert.throws(() => send(dispatcher, opcodes.STATFS), AssertionError)
    assert.equal(replyOf(dispatcher, 16)?.error, -5)
  })

  it('the trace is readable and costs nothing when off', () => {
    const lines: string[] = []
    const logger = {
      isLevelEnabled: () => true,
      trace: (line: string) => void lines.push(line),
      error: () => undefined,
    } as unknown as Logger
    const dispatcher = new Dispatcher(new MemoryFilesystem(), { logger })
    send(dispatcher, opcodes.CREATE, create('a'))
    send(dispatcher, opcodes.LOOKUP, text('a'), { unique: 2n ** 63n + 9n })
    send(dispatcher, opcodes.RMDIR, text('b'))
    send(dispatcher, opcodes.FORGET, u64(1n), { nodeid: 2 })
    const expected = [
      'rx 7: CREATE n1 "a"',
      'tx 7: OK n2 fh1',
      'rx 9*: LOOKUP n1 "a"',
      'tx 9*: OK n2',
      'rx 7: RMDIR n1 "b"',
      'tx 7: ENOENT',
    ]
    assert.deepEqual(lines, [...expected, 'rx 7: FORGET n2', 'tx 7: none'])
  })
})

describe('random bytes', () => {
  const seed = Number(process.env.LITEVOL_SEED ?? Date.now() % 2 ** 31)

  it(`are answered, never thrown (LITEVOL_SEED=${seed})`, () => {
    const random = seeded(seed)
    const dispatcher = new Dispatcher(new BoundedFilesystem(), {})
    for (let round = 0; round < 30_000; round++) {
      const length = Math.floor(random() * 200)
      const { buffer } = dispatcher.request
      for (let i = 0; i < length; i++) buffer[i] = random() < 0.5 ? 0 : Math.floor(random() * 256)
      if (random() < 0.9 && length >= inHeader.size) {
        buffer.writeUInt32LE(length, 0)
        buffer.writeUInt32LE(Math.floor(random() * 60), 4)
        buffer.writeBigUInt64LE(BigInt(1 + Math.floor(random() * 4)), 16)
        if (random() < 0.95) buffer.writeUInt32LE(0, 36)
      }
      checkReply(dispatcher, length)
    }
  })
})

/** Random sizes and offsets must not eat the memory of the test. */
class BoundedFilesystem extends MemoryFilesystem {
  override write(): void {
    return
  }
  override setattr(...[, nodeid]: Parameters<MemoryFilesystem['setattr']>) {
    return this.getattr(nodeid)
  }
}

function checkReply(dispatcher: Dispatcher, length: number): void {
  const { buffer } = dispatcher.request
  const opcode = length >= 8 ? buffer.readUInt32LE(4) : -1
  const replyLength = dispatcher.dispatch(length)
  const isExpected = length >= inHeader.size && findOperation(opcode)?.isAnswered !== false
  assert.equal(replyLength > 0, isExpected, `opcode ${opcode}`)
  if (!isExpected) return
  const reply = replyOf(dispatcher, replyLength)
  assert.ok(reply !== undefined)
  assert.equal(reply.length, replyLength)
  assert.ok(reply.error <= 0 && reply.error > -512, `error ${reply.error}`)
  assert.equal(reply.unique, buffer.readBigUInt64LE(8))
  const size = findOperation(opcode)?.replySize
  if (reply.error === 0 && size !== undefined) assert.equal(reply.payload.length, size, `payload of opcode ${opcode}`)
}
