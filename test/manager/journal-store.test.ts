/** The journalled store: transactions, compaction, migrations, the store of the first version, the lock. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { JournalStore, storeFileName } from '../../src/manager/journal-store.ts'
import { migrations } from '../../src/manager/migrations.ts'
import { inspectStore } from '../../src/manager/store-inspection.ts'
import { assertErrno, withFolder } from '../support.ts'
import { action, insert, pathOf, record, using, withStore } from './journal-support.ts'
import { silent } from './support.ts'

test('what a transaction did is there for the next process', () =>
  withStore((store, folder) => {
    store.transact(action, (draft) => { draft.insert(record(1)); draft.insert(record(2)) }) // prettier-ignore
    store.transact(action, (draft) => { draft.update(record(1).id, { persist: { readOnly: true } }); draft.remove(record(2).id) }) // prettier-ignore
    store.close()
    using(folder, (next) => {
      assert.deepEqual(next.list(), [{ ...record(1), persist: { readOnly: true } }])
      assert.deepEqual(next.find(record(1).id)?.persist, { readOnly: true })
      assert.equal(next.findByName('volume-1')?.id, record(1).id)
      assert.equal(next.findByName('volume-2'), undefined)
    })
    assert.deepEqual(readdirSync(folder).sort(), ['manager.lock', storeFileName])
  }))

test('a transaction is one line: its changes of several volumes are there together or not at all', () =>
  withStore((store, _, file) => {
    insert(store, 1, 2)
    const before = readFileSync(file)
    store.transact(action, (draft) => {
      draft.update(record(1).id, { name: 'volume-2' })
      draft.update(record(2).id, { name: 'volume-1' }) // names may be swapped in one change
      draft.insert(record(3))
    })
    const added = readFileSync(file).subarray(before.length)
    assert.equal(added.indexOf('\n'), added.length - 1)
    assert.deepEqual(
      store.list().map(({ name }) => name),
      ['volume-2', 'volume-1', 'volume-3'],
    )
    assert.equal(store.findByName('volume-1')?.id, record(2).id)
  }))

test('a field that may be absent comes and goes', () =>
  withFolder((folder) => {
    using(folder, (store) => { insert(store, 1) }) // prettier-ignore
    for (const persist of [{ readOnly: true }, { readOnly: true, driver: 'fuse-native' as const }, { readOnly: true }, null]) {
      using(folder, (store) => { store.transact(action, (draft) => { draft.update(record(1).id, { persist }) }) }) // prettier-ignore
      using(folder, (store) => { assert.deepEqual(store.find(record(1).id)?.persist, persist) }) // prettier-ignore
    }
  }))

test('a transaction that throws changes nothing, in memory or on the disk', () =>
  withStore((store, _, file) => {
    insert(store, 1)
    const before = readFileSync(file)
    assert.throws(
      () => store.transact(action, (draft) => { draft.insert(record(2)); draft.remove(record(1).id); throw new Error('no') }), // prettier-ignore
      /no/,
    )
    assertErrno('ENOENT', () => store.transact(action, (draft) => { draft.remove(record(9).id) })) // prettier-ignore
    assertErrno('EEXIST', () => store.transact(action, (draft) => { draft.insert(record(1)) })) // prettier-ignore
    assertErrno('EINVAL', () => store.transact(action, (draft) => { draft.insert({ ...record(2), name: 'volume-1' }) })) // prettier-ignore
    assertErrno('EINVAL', () => store.transact(action, (draft) => { draft.insert({ ...record(2), file: 'a/b' }) })) // prettier-ignore
    assert.deepEqual(store.list(), [record(1)])
    assert.deepEqual(readFileSync(file), before)
  }))

test('inside a transaction its own changes are seen, outside not before it ends', () =>
  withStore((store) => {
    insert(store, 1)
    const result = store.transact(action, (draft) => {
      draft.update(record(1).id, { name: 'other' })
      assert.equal(draft.findByName('volume-1'), undefined)
      assert.equal(draft.findByName('other')?.id, record(1).id)
      draft.insert(record(2))
      assert.equal(draft.find(record(2).id)?.name, 'volume-2')
      draft.remove(record(2).id)
      assert.equal(draft.find(record(2).id), undefined)
      assert.deepEqual(store.list(), [record(1)])
      return 7
    })
    assert.equal(result, 7)
    assert.deepEqual(store.list(), [{ ...record(1), name: 'other' }])
  }))

test('a transaction that changes nothing writes nothing', () =>
  withStore((store, _, file) => {
    insert(store, 1)
    const before = readFileSync(file)
    store.transact(action, (draft) => { draft.update(record(1).id, { persist: null }) }) // prettier-ignore
    store.transact(action, (draft) => { draft.insert(record(2)); draft.remove(record(2).id) }) // prettier-ignore
    assert.deepEqual(readFileSync(file), before)
  }))

test('a closed store refuses changes', () =>
  withStore((store) => {
    store.close()
    store.close()
    assert.equal(assertErrno('EAGAIN', () => { insert(store, 1) }).problem, 'stopping') // prettier-ignore
  }))

test('past the bound the file is compacted: the records as one snapshot, the changes in the file of before', () =>
  withStore(
    (store, folder, file) => {
      insert(store, 1, 2, 3)
      const before = readFileSync(file)
      store.transact({ who: 'test', action: 'the fourth' }, (draft) => { draft.remove(record(2).id) }) // prettier-ignore
      assert.ok(readFileSync(file).length < before.length)
      insert(store, 4)
      assert.deepEqual(readdirSync(folder).sort(), ['manager.lock', storeFileName, `${storeFileName}.previous`])
      const { history, generation, changes, volumes, notes } = inspectStore(folder)
      assert.deepEqual({ generation, changes, volumes, notes }, { generation: 2, changes: 1, volumes: 3, notes: [] })
      assert.deepEqual(
        history.map((entry) => (entry.kind === 'change' ? entry.seq : entry.why)),
        ['new store', 1, 2, 3, 4, 'compaction', 5],
      )
      store.close()
      using(folder, (next) => { assert.deepEqual(next.list(), [record(1), record(3), record(4)]) }) // prettier-ignore
    },
    { compactAfter: 4 },
  ))

test('a compaction that fails leaves the store as it was, with the change that led to it', () =>
  withStore(
    (store, folder, file) => {
      mkdirSync(`${file}.tmp`) // open(2) of the temporary file fails, also for root
      insert(store, 1, 2, 3)
      assert.equal(inspectStore(folder).generation, 1)
      rmSync(`${file}.tmp`, { recursive: true })
      insert(store, 4, 5)
      assert.ok(inspectStore(folder).generation > 1, 'it is tried again')
      store.close()
      using(folder, (next) => { assert.deepEqual(next.list(), [1, 2, 3, 4, 5].map(record)) }) // prettier-ignore
    },
    { compactAfter: 2 },
  ))

test('a temporary file that a crash left is ignored', () =>
  withFolder((folder) => {
    writeFileSync(`${pathOf(folder)}.tmp`, '{"len":12')
    using(folder, (store) => { insert(store, 1, 2) }, { compactAfter: 2 }) // prettier-ignore
    using(folder, (store) => { assert.deepEqual(store.list(), [record(1), record(2)]) }) // prettier-ignore
    assert.ok(!existsSync(`${pathOf(folder)}.tmp`))
  }))

/** A record as the first version wrote it. */
function firstRecord(n: number): object {
  const { attachments: _, ...first } = record(n)
  return first
}

const firstFile = (...numbers: readonly number[]): string => JSON.stringify({ format: 1, volumes: numbers.map(firstRecord) }, undefined, 2)

test('a store of the first version is taken over once; its file is kept as a backup', () =>
  withFolder((folder) => {
    const old = join(folder, 'volumes.json')
    writeFileSync(old, firstFile(1, 2))
    using(folder, (store) => {
      assert.deepEqual(store.list(), [record(1), record(2)])
      insert(store, 3)
    })
    assert.ok(!existsSync(old))
    assert.equal(readFileSync(`${old}.taken-over`, 'utf8'), firstFile(1, 2))
    using(folder, (store) => { assert.deepEqual(store.list(), [1, 2, 3].map(record)) }) // prettier-ignore
    const [first] = inspectStore(folder).history
    assert.partialDeepStrictEqual(first, {
      kind: 'snapshot',
      why: 'migration 0: taken over from volumes.json; migration 1: attachments',
      volumes: 2,
    })
  }))

test('a takeover that a crash interrupted is finished; a store that an earlier version wrote later is not lost silently', () =>
  withFolder((folder) => {
    using(folder, (store) => { insert(store, 1) }) // prettier-ignore
    const old = join(folder, 'volumes.json')
    writeFileSync(old, firstFile(1))
    using(folder, (store) => { assert.deepEqual(store.list(), [record(1)]) }) // prettier-ignore
    assert.ok(!existsSync(old))
    writeFileSync(old, firstFile(7))
    assert.match(assertErrno('EIO', () => JournalStore.open(folder, silent)).message, /volumes\.json: was written after/)
    assert.equal(readFileSync(old, 'utf8'), firstFile(7))
    assert.equal(readFileSync(`${old}.taken-over`, 'utf8'), firstFile(1))
  }))

const good = firstFile(1, 2)
const damages: readonly (readonly [string, string, RegExp])[] = [
  ['torn', good.slice(0, 200), /line \d+, column \d+: not JSON/],
  ['empty', '', /line 1, column 1/],
  ['overwritten', good.replace('"volume-1"', '"volume-1'), /line 6, column \d+/],
  ['with a field of another type', good.replace('"encrypted": false', '"encrypted": "no"'), /\/volumes\/0\/encrypted/],
  ['with a path as a file', good.replace(`"file": "${record(1).file}"`, '"file": "../x"'), /\/volumes\/0\/file/],
  ['with one volume twice', good.replaceAll(record(2).name, record(1).name), /another volume has the name volume-1/],
  ['of another format', good.replace('"format": 1', '"format": 2'), /\/format/],
  ['that is no object', '[]', /top level/],
]
for (const [what, content, place] of damages) {
  test(`a store of the first version ${what} is refused by name and place, and not touched`, () =>
    withFolder((folder) => {
      const file = join(folder, 'volumes.json')
      writeFileSync(file, content)
      const error = assertErrno('EIO', () => JournalStore.open(folder, silent))
      assert.ok(error.message.includes(file), error.message)
      assert.match(error.message, place)
      assert.equal(error.problem, 'store_damaged')
      assert.deepEqual(readdirSync(folder).sort(), ['manager.lock', 'volumes.json'])
      assert.equal(readFileSync(file, 'utf8'), content)
    }))
}

test('a store whose records are of an earlier version is migrated in order, and written anew before it is used', () =>
  withFolder((folder) => {
    using(folder, (store) => { insert(store, 1, 2) }) // prettier-ignore
    const rename = (what: string, suffix: string) => ({
      what,
      change: (value: unknown): unknown => ({ ...(value as { name: string }), name: `${(value as { name: string }).name}${suffix}` }),
    })
    const later = { migrations: [...migrations, rename('append b', 'b'), rename('append c', 'c')] }
    const check = (): void => {
      using(
        folder,
        (store) => {
          assert.deepEqual(
            store.list().map(({ name }) => name),
            ['volume-1bc', 'volume-2bc'],
          )
        },
        later,
      )
    }
    check()
    check() // not migrated twice
    const text = readFileSync(pathOf(folder), 'utf8')
    assert.match(text, /^.*"schema":4,"generation":2,.*"why":"migration 2: append b; migration 3: append c","seq":2,"records":2\}\n/)
    assert.equal(assertErrno('EIO', () => JournalStore.open(folder, silent)).problem, 'newer_format')
  }))

test('a migration whose result the schema refuses changes nothing', () =>
  withFolder((folder) => {
    using(folder, (store) => { insert(store, 1) }) // prettier-ignore
    const before = readFileSync(pathOf(folder))
    const bad = { migrations: [...migrations, { what: 'break it', change: (value: unknown) => ({ ...(value as object), persist: 1 }) }] }
    assert.match(assertErrno('EIO', () => JournalStore.open(folder, silent, bad)).message, /after migration, volume .*persist/)
    assert.deepEqual(readFileSync(pathOf(folder)), before)
  }))

test('two managers never share a data root, and the lock dies with its process', () =>
  withStore((store, folder) => {
    assertErrno('EBUSY', () => JournalStore.open(folder, silent))
    store.close()
    const program = `import { JournalStore } from '${new URL('../../src/manager/journal-store.ts', import.meta.url).href}'; JournalStore.open(process.argv[1]); process.kill(process.pid, 'SIGKILL')`
    const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', program, folder])
    assert.equal(signal, 'SIGKILL')
    JournalStore.open(folder, silent).close()
  }))
