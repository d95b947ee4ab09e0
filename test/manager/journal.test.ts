/** The bytes of the journal: pinned, cut at every byte, every bit of them flipped, changed with right checksums. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { crc32 } from 'node:zlib'
import type { ErrnoError } from '../../src/base/index.ts'
import { encodeChange, encodeSnapshot } from '../../src/manager/journal.ts'
import { JournalStore } from '../../src/manager/journal-store.ts'
import { assertErrno, withFolder } from '../support.ts'
import { load, put, record, sampleBytes, using } from './journal-support.ts'
import { silent } from './support.ts'

const at = '2026-01-01T00:00:00.000Z'
const header = { schema: 2, generation: 1, at, why: 'new store', seq: 0 }

/** A line with right length and checksum, made apart from the code that is tested. */
function line(body: object): string {
  const rest = JSON.stringify(body).slice(1)
  return `{"len":${String(Buffer.byteLength(rest))},"crc":"${crc32(rest).toString(16).padStart(8, '0')}",${rest}\n`
}

function assertDamaged(bytes: Buffer): ErrnoError {
  const error = assertErrno('EIO', () => load(bytes))
  assert.equal(error.problem, 'store_damaged')
  return error
}

/** Where each line begins, and where the last one ends. */
function offsetsOf(bytes: Buffer): number[] {
  const offsets = [0]
  while (offsets.at(-1) !== bytes.length) offsets.push(bytes.indexOf('\n', offsets.at(-1)) + 1)
  return offsets
}

test('the bytes of a line are those of docs/format.md', () => {
  const example = readFileSync(new URL('../../docs/format.md', import.meta.url), 'utf8')
    .split('```jsonl\n')[1]
    ?.split('```')[0]
  const volume = { ...record(1), id: '019430e2-6a40-7c3e-b1f1-0d6f0c9a7b21', name: 'photos', file: '019430e2-6a40-7c3e-b1f1-0d6f0c9a7b21.litevol', createdAt: at } // prettier-ignore
  const change = { seq: 1, at, who: 'http 127.0.0.1', action: 'remember the mount of volume photos', patch: [{ op: 'replace' as const, path: `/${volume.id}/persist`, value: { readOnly: false } }] } // prettier-ignore
  const bytes = Buffer.concat([encodeSnapshot(header, [volume]), encodeChange(change)])
  assert.equal(bytes.toString(), example)
  assert.deepEqual(load(bytes), { ids: [volume.id], tornBytes: 0 })
  const { why, ...rest } = { store: 'litevol', format: 1, ...header, records: 1 }
  const ordered = { store: rest.store, format: 1, schema: 2, generation: 1, at, why, seq: 0, records: 1 }
  assert.equal(bytes.toString(), line(ordered) + line({ record: volume }) + line(change))
})

test('a last change that is cut at any byte is cut off at the next start, and everything before it is there', async () => {
  const bytes = await sampleBytes()
  const [start = 0, end = 0] = offsetsOf(bytes).slice(-2)
  const before = load(bytes.subarray(0, start))
  assert.deepEqual(before, { ids: [1, 2, 3].map((n) => record(n).id), tornBytes: 0 })
  assert.ok(end - start > 250, 'the last line is a whole change')
  for (let cut = start; cut < end; cut++) {
    assert.deepEqual(load(bytes.subarray(0, cut)), { ...before, tornBytes: cut - start }, `cut at ${String(cut)}`)
  }
  await withFolder((folder) => {
    for (const cut of [start + 1, start + 20, end - 1]) {
      const file = put(folder, bytes.subarray(0, cut))
      using(folder, (store) => { assert.equal(store.list().length, 3) }) // prettier-ignore
      assert.deepEqual(readFileSync(file), bytes.subarray(0, start), 'the rest of the line is gone from the file')
    }
  })
})

test('a last change of which the disk never got a page is cut off as well, and zeros in place of what was renamed are damage', () => {
  const snapshotOf = (why: string): Buffer => encodeSnapshot({ ...header, why }, [record(1)])
  const snapshot = snapshotOf('x'.repeat(4096 - 100 - snapshotOf('').length - 1)) // `len` gets a digit more
  const patch = [{ op: 'replace' as const, path: `/${record(1).id}/persist`, value: { readOnly: false } }]
  const change = encodeChange({ seq: 1, at, who: 'a', action: 'b', patch })
  const bytes = Buffer.concat([snapshot, change])
  assert.ok(snapshot.length > 3900 && snapshot.length < 4096 && bytes.length > 4096, 'the change lies in two pages')
  for (const [from, to] of [
    [snapshot.length, 4096],
    [4096, bytes.length],
    [snapshot.length, bytes.length],
  ] as const) {
    // prettier-ignore
    for (let end = Math.max(from, snapshot.length) + 1; end <= bytes.length; end++) {
      const left = Buffer.from(bytes.subarray(0, end)).fill(0, from, Math.min(to, end))
      const { ids, tornBytes } = load(left)
      assert.deepEqual({ ids, tornBytes }, { ids: [record(1).id], tornBytes: end - snapshot.length }, `${String(from)}, ${String(end)}`)
    }
  }
  const end = snapshot.lastIndexOf('\n', -2) + 1
  assertDamaged(Buffer.from(snapshot).fill(0, end))
  assertDamaged(Buffer.from(bytes).fill(0, snapshot.length + 10, snapshot.length + 20)) // no whole page
})

test('a snapshot that is cut at any byte is refused: it was renamed into place whole', async () => {
  const bytes = await sampleBytes()
  const [, , end = 0] = offsetsOf(bytes)
  for (let cut = 0; cut < end; cut++) assertDamaged(bytes.subarray(0, cut))
  assert.deepEqual(load(bytes.subarray(0, end)).ids, [record(1).id])
})

test('a single flipped bit anywhere is refused, with the line and byte where that line begins', async () => {
  const bytes = await sampleBytes()
  const offsets = offsetsOf(bytes)
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes)
    const byte = Math.floor(bit / 8)
    flipped[byte] = (flipped[byte] ?? 0) ^ (1 << (bit % 8))
    const index = offsets.findLastIndex((offset) => offset <= byte)
    const { context } = assertDamaged(flipped)
    assert.deepEqual([context['line'], context['byte']], [index + 1, offsets[index]], `bit ${String(bit)}`)
  }
})

test('a line that is missing, doubled or out of place is refused', async () => {
  const text = (await sampleBytes()).toString()
  const lines = text.split('\n').slice(0, -1).map((one) => `${one}\n`) // prettier-ignore
  assert.equal(lines.length, 5)
  const without = (gone: number): string => lines.filter((_, index) => index !== gone).join('')
  for (const gone of [0, 1, 2, 3]) assertDamaged(Buffer.from(without(gone)))
  for (const twice of [0, 1, 2, 3, 4]) assertDamaged(Buffer.from(text + (lines[twice] ?? '')))
  assertDamaged(Buffer.from([0, 1, 3, 2, 4].map((index) => lines[index]).join('')))
  assertDamaged(Buffer.from(`${text}garbage`))
  assertDamaged(Buffer.concat([Buffer.alloc(5000), Buffer.from(text)]))
})

const [first, second] = [record(1), record(2)]
const snapshot = encodeSnapshot(header, [first]).toString()
const change = (patch: readonly object[], seq = 1): string => line({ seq, at, who: 'a', action: 'b', patch })
const wrongs: readonly (readonly [string, string, RegExp])[] = [
  ['a patch that makes a field another type', change([{ op: 'replace', path: `/${first.id}/encrypted`, value: 'no' }]), /line 3, byte \d+: volume .*\/encrypted/],
  ['a patch that adds a field the schema lacks', change([{ op: 'add', path: `/${first.id}/color`, value: 1 }]), /line 3, byte/],
  ['a patch that names a path as a file', change([{ op: 'replace', path: `/${first.id}/file`, value: '../x' }]), /\/file/],
  ['a patch of a volume that is not there', change([{ op: 'remove', path: `/${second.id}` }]), /does not apply/],
  ['a patch that moves a record out of its id', change([{ op: 'replace', path: `/${first.id}/id`, value: second.id }]), /its record has the id/],
  ['a patch with an operation that reaches elsewhere', change([{ op: 'move', from: `/${first.id}`, path: `/${second.id}` }]), /\/patch\/0/],
  ['a patch of everything', change([{ op: 'replace', path: '', value: {} }]), /\/patch\/0/],
  ['a second volume of the same name', change([{ op: 'add', path: `/${second.id}`, value: { ...second, name: first.name } }]), /another volume has the name volume-1/],
  ['a second volume of the same file', change([{ op: 'add', path: `/${second.id}`, value: { ...second, file: first.file } }]), /another volume has the file/],
  ['a change with a number left out', change([{ op: 'remove', path: `/${first.id}` }], 2), /change 2 where change 1 belongs/],
  ['a change without an author', line({ seq: 1, at, action: 'b', patch: [{ op: 'remove', path: `/${first.id}` }] }), /who/],
  ['a change of nothing', change([]), /patch/],
  ['text that is no JSON', `{"len":1,"crc":"${crc32('x').toString(16)}",x\n`, /JSON/],
] // prettier-ignore
for (const [what, bad, fault] of wrongs) {
  test(`${what} is refused on replay though its checksum is right, and the file is not touched`, () =>
    withFolder((folder) => {
      const content = snapshot + bad
      const file = put(folder, content)
      const error = assertErrno('EIO', () => JournalStore.open(folder, silent))
      assert.match(error.message, fault)
      assert.ok(error.message.includes(file), error.message)
      assert.equal(error.problem, 'store_damaged')
      assert.equal(readFileSync(file, 'utf8'), content)
      assertErrno('EIO', () => JournalStore.open(folder, silent)) // the lock was given back
    }))
}

test('a store of a later litevol is refused as such', () => {
  const later = line({ store: 'litevol', format: 2, whatever: true })
  assert.equal(assertErrno('EIO', () => load(Buffer.from(later))).problem, 'newer_format')
  const schema = encodeSnapshot({ ...header, schema: 99 }, [{ ...first, color: 'red' }])
  assert.equal(assertErrno('EIO', () => load(schema)).problem, 'newer_format')
})
