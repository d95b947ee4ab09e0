/** The headers of conditional and range requests. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { matchesTag, parseIfRange, parseRange, sliceOf } from '../../src/api/conditions.ts'

const size = 1000
const ranges: readonly (readonly [string | undefined, string])[] = [
  [undefined, 'whole'],
  ['bytes=0-', '0-1000'],
  ['bytes=0-0', '0-1'],
  ['bytes=999-', '999-1000'],
  ['bytes=10-19', '10-20'],
  ['bytes=10-5000', '10-1000'],
  ['bytes=-1', '999-1000'],
  ['bytes=-5000', '0-1000'],
  ['Bytes=1-2', '1-3'],
  ['bytes=1000-', 'unsatisfiable'],
  ['bytes=99999999999999999999-', 'unsatisfiable'],
  ['bytes=-0', 'unsatisfiable'],
  ['bytes=5-4', 'whole'],
  ['bytes=0-1,4-5', 'whole'],
  ['bytes=-', 'whole'],
  ['bytes=a-b', 'whole'],
  ['rows=1-2', 'whole'],
]
for (const [header, expected] of ranges) {
  test(`Range '${String(header)}' of ${String(size)} bytes means ${expected}`, () => {
    const range = parseRange(header)
    const slice = range === undefined ? undefined : sliceOf(range, size)
    const found = range === undefined ? 'whole' : slice === undefined ? 'unsatisfiable' : `${String(slice.start)}-${String(slice.end)}`
    assert.equal(found, expected)
  })
}

test('If-None-Match compares weakly with each of its tags', () => {
  for (const header of ['"a"', 'W/"a"', '"x", "a"', '*', ' "x" ,W/"a"']) assert.ok(matchesTag(header, '"a"'), header)
  for (const header of [undefined, '', 'a', '"b"', '"a-"', '"aa"']) assert.ok(!matchesTag(header, '"a"'), String(header))
})

test('If-Range matches a strong tag only', () => {
  assert.equal(parseIfRange('"a-1"'), 'a-1')
  assert.equal(parseIfRange(undefined), undefined)
  for (const header of ['W/"a-1"', 'Wed, 21 Oct 2015 07:28:00 GMT', 'a-1', '"a", "b"']) assert.equal(parseIfRange(header), '', header)
})
