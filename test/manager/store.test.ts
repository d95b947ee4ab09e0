/** The volume store as a JSON file: transactions, damage, the lock. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { JsonStore, storeFileName } from '../../src/manager/json-store.ts'
import type { VolumeRecord } from '../../src/manager/store.ts'
import { assertErrno, withFolder } from '../support.ts'

const action = { who: 'test', action: 'test' }

function record(n: number): VolumeRecord {
  const id = `01940000-0000-7000-8000-${String(n).padStart(12, '0')}`
  return { id, name: `volume-${String(n)}`, file: `${id}.litevol`, createdAt: '2026-01-01T00:00:00.000Z', encrypted: false, persist: null }
}

async function withStore(work: (store: JsonStore, folder: string) => void): Promise<void> {
  await withFolder((folder) => {
    const store = JsonStore.open(folder)
    try {
      work(store, folder)
    } finally {
      store.close()
    }
  })
}

test('what a transaction did is there for the next process', () =>
  withStore((store, folder) => {
    store.transact(action, (draft) => { draft.insert(record(1)); draft.insert(record(2)) }) // prettier-ignore
    store.transact(action, (draft) => { draft.update(record(1).id, { persist: { readOnly: true } }); draft.remove(record(2).id) }) // prettier-ignore
    store.close()
    const next = JsonStore.open(folder)
    assert.deepEqual(next.list(), [{ ...record(1), persist: { readOnly: true } }])
    assert.deepEqual(next.find(record(1).id)?.persist, { readOnly: true })
    next.close()
    assert.deepEqual(readdirSync(folder).sort(), ['manager.lock', storeFileName])
  }))

test('a record from before there were two drivers is read, one with an unknown driver is refused', () =>
  withFolder((folder) => {
    const write = (persist: unknown): void => {
      writeFileSync(join(folder, storeFileName), JSON.stringify({ format: 1, volumes: [{ ...record(1), persist }] }))
    }
    for (const persist of [{ readOnly: true }, { readOnly: false, driver: 'fuse-native' }]) {
      write(persist)
      const store = JsonStore.open(folder)
      assert.deepEqual(store.list()[0]?.persist, persist)
      store.close()
    }
    write({ readOnly: true, driver: 'other' })
    assertErrno('EIO', () => JsonStore.open(folder))
  }))

test('a transaction that throws changes nothing, in memory or on the disk', () =>
  withStore((store, folder) => {
    store.transact(action, (draft) => { draft.insert(record(1)) }) // prettier-ignore
    const before = readFileSync(join(folder, storeFileName), 'utf8')
    assert.throws(
      () => store.transact(action, (draft) => { draft.insert(record(2)); draft.remove(record(1).id); throw new Error('no') }), // prettier-ignore
      /no/,
    )
    assertErrno('ENOENT', () => store.transact(action, (draft) => { draft.remove(record(9).id) })) // prettier-ignore
    assert.deepEqual(store.list(), [record(1)])
    assert.equal(readFileSync(join(folder, storeFileName), 'utf8'), before)
  }))

test('a transaction whose file cannot be written changes nothing', () =>
  withStore((store, folder) => {
    store.transact(action, (draft) => { draft.insert(record(1)) }) // prettier-ignore
    mkdirSync(join(folder, `${storeFileName}.tmp`)) // open(2) of the temporary file fails, also for root
    assert.throws(() => store.transact(action, (draft) => { draft.insert(record(2)) }), { code: 'EIO' }) // prettier-ignore
    assert.deepEqual(store.list(), [record(1)])
    rmSync(join(folder, `${storeFileName}.tmp`), { recursive: true })
  }))

test('a temporary file that a crash left is ignored', () =>
  withFolder((folder) => {
    writeFileSync(join(folder, `${storeFileName}.tmp`), '{"format":1,"volu')
    const store = JsonStore.open(folder)
    store.transact(action, (draft) => { draft.insert(record(1)) }) // prettier-ignore
    assert.deepEqual(store.list(), [record(1)])
    store.close()
    assert.ok(!existsSync(join(folder, `${storeFileName}.tmp`)))
  }))

const good = JSON.stringify({ format: 1, volumes: [record(1), record(2)] }, undefined, 2)
const damages: readonly (readonly [string, string, RegExp])[] = [
  ['torn', good.slice(0, 200), /line \d+, column \d+: not JSON/],
  ['empty', '', /line 1, column 1/],
  ['overwritten', good.replace('"volume-1"', '"volume-1'), /line 6, column \d+/],
  ['with a field of another type', good.replace('"encrypted": false', '"encrypted": "no"'), /\/volumes\/0\/encrypted/],
  ['with a path as a file', good.replace(`"file": "${record(1).file}"`, '"file": "../x"'), /\/volumes\/0\/file/],
  ['with one volume twice', good.replaceAll(record(2).name, record(1).name), /\/volumes\/1: id or name appears twice/],
  ['of another format', good.replace('"format": 1', '"format": 2'), /\/format/],
  ['that is no object', '[]', /top level/],
]
for (const [what, content, place] of damages) {
  test(`a store ${what} is refused by name and place, and not touched`, () =>
    withFolder((folder) => {
      const file = join(folder, storeFileName)
      writeFileSync(file, content)
      const error = assertErrno('EIO', () => JsonStore.open(folder))
      assert.ok(error.message.includes(file), error.message)
      assert.match(error.message, place)
      assert.equal(error.problem, 'store_damaged')
      assert.equal(readFileSync(file, 'utf8'), content)
      assertErrno('EIO', () => JsonStore.open(folder)) // the lock was given back
    }))
}

test('two managers never share a data root, and the lock dies with its process', () =>
  withStore((store, folder) => {
    assertErrno('EBUSY', () => JsonStore.open(folder))
    store.close()
    const program = `import { JsonStore } from '${new URL('../../src/manager/json-store.ts', import.meta.url).href}'; JsonStore.open(process.argv[1]); process.kill(process.pid, 'SIGKILL')`
    const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', program, folder])
    assert.equal(signal, 'SIGKILL')
    JsonStore.open(folder).close()
  }))
