/** What the tests of the journal share: records, actions, a store in a folder of its own, its file. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodeJournal } from '../../src/manager/journal.ts'
import { JournalStore, storeFileName, type JournalStoreOptions } from '../../src/manager/journal-store.ts'
import { migrations } from '../../src/manager/migrations.ts'
import type { VolumeRecord } from '../../src/manager/record.ts'
import { replay } from '../../src/manager/replay.ts'
import { withFolder } from '../support.ts'
import { silent } from './support.ts'

export const action = { who: 'test', action: 'test' }

export function record(n: number): VolumeRecord {
  const id = `01940000-0000-7000-8000-${String(n).padStart(12, '0')}`
  const made = { createdAt: '2026-01-01T00:00:00.000Z', encrypted: false, persist: null, attachments: null }
  return { id, name: `volume-${String(n)}`, file: `${id}.litevol`, ...made }
}

export function pathOf(folder: string): string {
  return join(folder, storeFileName)
}

/** Opens the store of a folder, calls `work`, closes it. */
export function using<T>(folder: string, work: (store: JournalStore) => T, options: JournalStoreOptions = {}): T {
  const store = JournalStore.open(folder, silent, options)
  try {
    return work(store)
  } finally {
    store.close()
  }
}

export function insert(store: JournalStore, ...numbers: readonly number[]): void {
  for (const n of numbers) store.transact({ who: 'test', action: `create ${String(n)}` }, (draft) => { draft.insert(record(n)) }) // prettier-ignore
}

/** Runs `work` with a new store, its folder and its file. */
export async function withStore(
  work: (store: JournalStore, folder: string, file: string) => void | Promise<void>,
  options: JournalStoreOptions = {},
): Promise<void> {
  await withFolder(async (folder) => {
    const store = JournalStore.open(folder, silent, options)
    try {
      await work(store, folder, pathOf(folder))
    } finally {
      store.close()
    }
  })
}

/** The bytes of a store that had volumes 1 to 3, of which 2 is gone and 3 persists; its snapshot has volume 1. */
export async function sampleBytes(): Promise<Buffer> {
  return withFolder((folder) => {
    using(folder, (store) => { insert(store, 1) }, { compactAfter: 1 }) // prettier-ignore
    using(folder, (store) => {
      insert(store, 2, 3)
      store.transact({ who: 'http 127.0.0.1', action: 'two at once' }, (draft) => {
        draft.remove(record(2).id)
        draft.update(record(3).id, { persist: { readOnly: true } })
      })
    })
    return readFileSync(pathOf(folder))
  })
}

/** What a start would make of these bytes; throws what a start would throw. */
export function load(bytes: Buffer): { readonly ids: string[]; readonly tornBytes: number } {
  const journal = decodeJournal('f', bytes)
  const ids = replay('f', journal, migrations).list().map(({ id }) => id) // prettier-ignore
  return { ids, tornBytes: journal.torn?.bytes ?? 0 }
}

/** Writes a store that a test has changed. */
export function put(folder: string, bytes: Buffer | string): string {
  writeFileSync(pathOf(folder), bytes)
  return pathOf(folder)
}
