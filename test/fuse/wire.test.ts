/** The structs and constants against linux/fuse.h, and the encoders against literal bytes. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ErrnoError } from '../../src/base/index.ts'
import * as constants from '../../src/fuse/constants.ts'
import { MAX_WRITE } from '../../src/fuse/negotiate.ts'
import { struct } from '../../src/fuse/struct.ts'
import type { Struct } from '../../src/fuse/struct.ts'
import * as wire from '../../src/fuse/wire.ts'
import { HEADER, constantsOf, hasHeader, readHeader, structsOf } from './header.ts'

const skip = hasHeader ? false : `no ${HEADER} (linux-libc-dev)`
const header = hasHeader ? readHeader() : ''
const camelCase = (name: string): string => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
type Shape = Pick<Struct<unknown>, 'name' | 'size' | 'fields'>
const ourStructs: readonly Shape[] = Object.values(wire).filter((value) => typeof value === 'object')

/** Ours that the header has in another form: each with its reason. */
const special: Readonly<Record<string, string>> = {
  none: 'stands for no struct',
  init_in: 'the header has init_in and init_in_ext as one',
  init_in_ext: 'the header has init_in and init_in_ext as one',
  statx_in: 'newer than the header: Linux 6.6',
  copy_file_range_out: 'newer than the header: Linux 6.18',
}

describe('structs', { skip }, () => {
  const theirs = structsOf(header)
  for (const ours of ourStructs.filter(({ name }) => special[name] === undefined)) {
    it(`${ours.name} has the fields, offsets and size of the header`, () => {
      const expected = theirs.get(ours.name)?.map(({ name, offset, size }) => ({ name: camelCase(name), offset, size }))
      assert.deepEqual(
        ours.fields.map(({ name, offset, size }) => ({ name, offset, size })),
        expected,
      )
    })
  }

  it('init_in is init_in_ext after its first 16 bytes', () => {
    const expected = theirs.get('init_in')?.map(({ name, offset, size }) => ({ name: camelCase(name), offset, size }))
    const second = wire.initInExt.fields.map((field) => ({ ...field, offset: field.offset + wire.initIn.size }))
    assert.deepEqual(
      [...wire.initIn.fields, ...second].map(({ name, offset, size }) => ({ name, offset, size })),
      expected,
    )
  })

  it('every request struct of the header is known', () => {
    const known = new Set([...ourStructs.map(({ name }) => name), 'cuse_init_in'])
    const missing = [...theirs.keys()].filter((name) => name.endsWith('_in') && !known.has(name))
    assert.deepEqual(missing, [])
  })
})

describe('constants', { skip }, () => {
  const theirs = constantsOf(header)
  const groups: [prefix: string, ours: Readonly<Record<string, number>>][] = [
    ['FUSE_', constants.opcodes],
    ['FATTR_', constants.FATTR],
    ['FOPEN_', constants.FOPEN],
    ['FUSE_WRITE_', constants.WRITE],
    ['FUSE_NOTIFY_', constants.notifyCodes],
  ]
  for (const [prefix, ours] of groups) {
    it(`${prefix}* agree`, () => {
      for (const [name, value] of Object.entries(ours)) agree(prefix + name, BigInt(value))
    })
  }

  it('INIT flags agree', () => {
    for (const [name, bit] of Object.entries(constants.initBits)) agree(`FUSE_${name}`, 1n << BigInt(bit))
  })

  it('no opcode and no notify code of the header is missing', () => {
    const enums = [...header.matchAll(/enum fuse_(opcode|notify_code) \{([^}]*)\}/g)]
    const names = enums.flatMap(([, , body = '']) => [...body.matchAll(/FUSE_(\w+)\s*=/g)].map(([, name = '']) => name))
    const known = [...Object.keys(constants.opcodes), ...Object.keys(constants.notifyCodes).map((name) => `NOTIFY_${name}`)]
    assert.deepEqual(
      names.filter((name) => !known.includes(name) && name !== 'INIT_BSWAP_RESERVED'),
      [],
    )
  })

  it('the root, the kill bit and the read buffer agree', () => {
    agree('FUSE_ROOT_ID', BigInt(constants.ROOT_ID))
    agree('FUSE_OPEN_KILL_SUIDGID', BigInt(constants.OPEN_KILL_SUIDGID))
    assert.ok(BigInt(MAX_WRITE) > (theirs.get('FUSE_MIN_READ_BUFFER') ?? 0n))
  })

  function agree(name: string, value: bigint): void {
    const expected = theirs.get(name)
    if (expected === undefined)
      assert.match(constants.newerConstants[name] ?? '', /^\d+\.\d+$/, `${name}: neither in the header nor listed as newer`)
    else assert.equal(value, expected, name)
  }
})

describe('encoding', () => {
  const hexOf = <V>(shape: Struct<V>, values: V): string => {
    const bytes = Buffer.alloc(shape.size, 0xff)
    shape.encode(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, values)
    return bytes.toString('hex')
  }

  it('open_out is 16 bytes with its padding cleared', () => {
    assert.equal(hexOf(wire.openOut, { fh: 0x1_0000_0002, openFlags: 2 }), '02000000010000000200000000000000')
  })

  it('a dirent carries inode, cookie, length and type', () => {
    const hex = hexOf(wire.dirent, { ino: 5, off: 2 ** 53 - 1, namelen: 3, type: 8 })
    assert.equal(hex, '0500000000000000' + 'ffffffffffff1f00' + '03000000' + '08000000')
  })

  it('a time before 1970 is two’s complement and comes back', () => {
    const shape = struct('time', [
      ['sec', 'i64'],
      ['nsec', 'u32'],
      ['rest', 'pad4'],
    ])
    assert.equal(hexOf(shape, { sec: -1, nsec: 999_999_999 }), 'ffffffffffffffff' + 'ffc99a3b' + '00000000')
    for (const sec of [-1, 0, -(2 ** 40) - 7, 2 ** 40 + 7]) {
      const view = new DataView(new ArrayBuffer(shape.size))
      shape.encode(view, 0, { sec, nsec: 1 })
      assert.deepEqual(shape.decode(view, 0), { sec, nsec: 1 })
    }
  })

  it('an offset past 2^53 - 1 is EFBIG, the last before it is not', () => {
    const view = new DataView(new ArrayBuffer(wire.readIn.size))
    view.setBigUint64(8, 2n ** 53n - 1n, true)
    assert.equal(wire.readIn.decode(view, 0).offset, Number.MAX_SAFE_INTEGER)
    view.setBigUint64(8, 2n ** 53n, true)
    assert.throws(
      () => wire.readIn.decode(view, 0),
      (error) => error instanceof ErrnoError && error.code === 'EFBIG',
    )
  })
})
