/** The answer to INIT, without a kernel. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { initBits, opcodes } from '../../src/fuse/constants.ts'
import type { InitFlag } from '../../src/fuse/constants.ts'
import { Dispatcher } from '../../src/fuse/dispatcher.ts'
import { negotiate } from '../../src/fuse/negotiate.ts'
import type { InitOffer, Negotiated } from '../../src/fuse/negotiate.ts'
import { initOut } from '../../src/fuse/wire.ts'
import { MemoryFilesystem } from './memory-filesystem.ts'
import { send } from './requests.ts'

const everything: InitOffer = { major: 7, minor: 45, maxReadahead: 131072, flags: 0xffff_ffff, flags2: 0xffff_ffff }
const needed: InitFlag[] = ['DONT_MASK', 'POSIX_ACL', 'HANDLE_KILLPRIV_V2', 'SETXATTR_EXT']
const isSet = (words: { flags: number; flags2: number }, flag: InitFlag): boolean => {
  const bit = initBits[flag]
  return (((bit < 32 ? words.flags : words.flags2) >>> (bit % 32)) & 1) === 1
}

describe('negotiate', () => {
  it('asks an all-offering kernel for what we want and nothing else', () => {
    const { answer, negotiated } = negotiate(everything)
    const asked = (Object.keys(initBits) as InitFlag[]).filter((flag) => isSet(answer, flag))
    assert.deepEqual(asked, negotiated?.flags)
    const expected = ['ASYNC_READ', 'ATOMIC_O_TRUNC', 'EXPORT_SUPPORT', 'BIG_WRITES', 'DONT_MASK', 'DO_READDIRPLUS', 'READDIRPLUS_AUTO']
    const more = [
      'ASYNC_DIO',
      'WRITEBACK_CACHE',
      'PARALLEL_DIROPS',
      'POSIX_ACL',
      'MAX_PAGES',
      'CACHE_SYMLINKS',
      'NO_OPENDIR_SUPPORT',
      'HANDLE_KILLPRIV_V2',
      'SETXATTR_EXT',
      'INIT_EXT',
      'HAS_RESEND',
    ]
    assert.deepEqual(asked, [...expected, ...more])
    assert.deepEqual(
      { maxWrite: answer.maxWrite, maxPages: answer.maxPages, timeGran: answer.timeGran },
      { maxWrite: 1048576, maxPages: 256, timeGran: 1 },
    )
  })

  it('asks for nothing that was not offered', () => {
    const flags = needed.reduce((mask, flag) => mask | (1 << initBits[flag]), 0)
    const { answer, negotiated } = negotiate({ ...everything, flags, flags2: 0xffff_ffff })
    assert.deepEqual(negotiated, { kernel: '7.45', flags: needed, maxWrite: 131072, hasResend: false })
    assert.deepEqual([answer.flags, answer.flags2, answer.maxPages], [flags, 0, 0])
  })

  it('asks for nothing that was declined', () => {
    const { answer, negotiated } = negotiate(everything, ['WRITEBACK_CACHE'])
    assert.equal(isSet(answer, 'WRITEBACK_CACHE'), false)
    const { negotiated: whole } = negotiate(everything)
    assert.deepEqual(
      negotiated?.flags,
      whole?.flags.filter((flag) => flag !== 'WRITEBACK_CACHE'),
    )
  })

  for (const flag of needed) {
    it(`refuses a kernel without ${flag} by name`, () => {
      const flags = (everything.flags & ~(1 << initBits[flag])) >>> 0
      assert.throws(() => negotiate({ ...everything, flags }), { code: 'EPROTO', message: new RegExp(`without ${flag}`) })
    })
  }

  it('answers a larger major with ours and waits', () => {
    const { answer, negotiated } = negotiate({ ...everything, major: 8, minor: 1 })
    assert.equal(negotiated, undefined)
    assert.equal(answer.major, 7)
  })

  it('refuses protocols older than its structs', () => {
    for (const version of [
      { major: 6, minor: 99 },
      { major: 7, minor: 32 },
    ]) {
      assert.throws(() => negotiate({ ...everything, ...version }), { code: 'EPROTO' })
    }
  })

  it('reads flags2 from the second half of INIT, and does without it', () => {
    const long = Buffer.alloc(64)
    long.writeUInt32LE(7, 0)
    long.writeUInt32LE(45, 4)
    long.writeUInt32LE(0xffff_ffff, 12)
    long.writeUInt32LE(1 << (initBits.HAS_RESEND - 32), 16)
    const seen: Negotiated[] = []
    const dispatcher = new Dispatcher(new MemoryFilesystem(), { onInit: (negotiated) => void seen.push(negotiated) })
    const reply = send(dispatcher, opcodes.INIT, long)
    assert.equal(reply?.payload.length, initOut.size)
    assert.equal(reply.payload.readUInt32LE(32), 1 << (initBits.HAS_RESEND - 32))
    send(dispatcher, opcodes.INIT, long.subarray(0, 16))
    assert.deepEqual(
      seen.map(({ hasResend }) => hasResend),
      [true, false],
    )
  })
})
