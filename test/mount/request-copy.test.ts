import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { opcodes } from '../../src/fuse/index.ts'
import { RequestCopy, readRequestCopy } from '../../src/mount/request-copy.ts'
import { seededBytes, withFolder } from '../support.ts'

const none = { lastRequest: 0, highest: 0 }

/** A request of `length` bytes: a header, then bytes that its number decides. */
function makeRequest(opcode: number, number: number, length: number): Buffer {
  const request = seededBytes(number, length)
  request.writeUInt32LE(length, 0)
  request.writeUInt32LE(opcode, 4)
  request.writeBigUInt64LE(BigInt(number), 8)
  return request
}

const withCopy = (work: (copy: RequestCopy, path: string) => void): Promise<void> =>
  withFolder((folder) => {
    const path = join(folder, 'request')
    const copy = new RequestCopy(path, none)
    try {
      work(copy, path)
    } finally {
      copy.close()
    }
  })

test('without a predecessor there is no copy', () =>
  withFolder((folder) => {
    assert.deepEqual(readRequestCopy(join(folder, 'request')), { request: undefined, marks: none })
  }))

test('the request in hand is read back as it was, short or long, until it is dropped', () =>
  withCopy((copy, path) => {
    for (const [number, length] of [[2, 40], [4, 56], [6, 1_048_576 + 80], [8, 41]] as const) {
      const request = makeRequest(opcodes.WRITE, number, length)
      copy.keep(Buffer.concat([request, Buffer.alloc(100)]), length)
      assert.deepEqual(readRequestCopy(path), { request, marks: { lastRequest: number, highest: number } })
      copy.drop()
      assert.deepEqual(readRequestCopy(path), { request: undefined, marks: { lastRequest: number, highest: number } })
    }
  })) // prettier-ignore

test('the number of a FORGET counts as the highest only, that of an INTERRUPT not at all', () =>
  withCopy((copy, path) => {
    copy.keep(makeRequest(opcodes.GETATTR, 10, 56), 56)
    copy.keep(makeRequest(opcodes.FORGET, 14, 48), 48)
    copy.keep(makeRequest(opcodes.INTERRUPT, 21, 48), 48)
    assert.deepEqual(readRequestCopy(path).marks, { lastRequest: 10, highest: 14 })
    copy.keep(makeRequest(opcodes.GETATTR, 12, 56), 56)
    assert.deepEqual(readRequestCopy(path).marks, { lastRequest: 12, highest: 14 })
  }))

test('a successor counts on', () =>
  withCopy((copy, path) => {
    copy.keep(makeRequest(opcodes.GETATTR, 10, 56), 56)
    const successor = new RequestCopy(path, readRequestCopy(path).marks)
    successor.keep(makeRequest(opcodes.BATCH_FORGET, 12, 64), 64)
    successor.close()
    assert.deepEqual(readRequestCopy(path).marks, { lastRequest: 10, highest: 12 })
  }))
