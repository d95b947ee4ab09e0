/** What is asked for ahead of who reads from front to end: only where the disk is waited for, and never behind. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Ino } from '../../src/base/index.ts'
import { ReadAhead, type AheadRange } from '../../src/mount/read-ahead.ts'

const MIB = 1 << 20
const [one, two] = [1 as Ino, 2 as Ino]

/** Reads `count` times a MiB from `offset` on, each in so many ms; returns what was asked for. */
function readOn(ahead: ReadAhead, asked: AheadRange[], { ino = one, offset = 0, count = 1, ms = 1 }): AheadRange[] {
  asked.length = 0
  for (let n = 0; n < count; n++) ahead.note(ino, offset + n * MIB, MIB, ms)
  return [...asked]
}

test('who reads from front to end and waits for the disk is asked ahead for, each byte once, without a gap', () => {
  const asked: AheadRange[] = []
  const ahead = new ReadAhead((range) => asked.push(range))
  assert.deepEqual(readOn(ahead, asked, { count: 1, ms: 50 }), [], 'one read is no run')
  const ranges = readOn(ahead, asked, { offset: MIB, count: 30, ms: 50 })
  assert.equal(ranges[0]?.offset, 3 * MIB, 'the next MiB is asked for by who reads')
  for (const [n, { ino, offset, length }] of ranges.entries())
    assert.deepEqual({ ino, offset, length }, { ino: one, offset: (3 + n) * MIB, length: MIB })
  assert.equal(ranges.at(-1)?.offset, 34 * MIB, 'as far as the window')
})

test('nothing is asked for while reading is fast; after a slow read as much as its credit', () => {
  const asked: AheadRange[] = []
  const ahead = new ReadAhead((range) => asked.push(range))
  assert.deepEqual(readOn(ahead, asked, { count: 100 }), [])
  const ranges = [...readOn(ahead, asked, { offset: 100 * MIB, ms: 50 }), ...readOn(ahead, asked, { offset: 101 * MIB, count: 100 })]
  assert.equal(ranges.length, 16)
  assert.deepEqual(readOn(ahead, asked, { offset: 201 * MIB, count: 100 }), [])
})

test('who jumps is not asked for, and two who read at once both are', () => {
  const asked: AheadRange[] = []
  const ahead = new ReadAhead((range) => asked.push(range))
  for (let n = 0; n < 50; n++) assert.deepEqual(readOn(ahead, asked, { offset: ((n * 7919) % 100) * 2 * MIB, ms: 50 }), [])
  const inos = new Set<number>()
  for (let n = 0; n < 20; n++) {
    for (const ino of [one, two]) {
      for (const range of readOn(ahead, asked, { ino, offset: n * MIB, ms: 50 })) inos.add(range.ino)
    }
  }
  assert.deepEqual([...inos], [1, 2])
})
