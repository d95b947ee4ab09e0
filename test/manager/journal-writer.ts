/** A process that writes to a store: FOLDER FIRST COUNT COMPACT_AFTER. It inserts volumes FIRST, FIRST + 1, … one by one, says `ok N` or
 *  the error's code and N once each call is over, and at last which volumes it sees. */
import { writeSync } from 'node:fs'
import { ErrnoError } from '../../src/base/index.ts'
import { JournalStore } from '../../src/manager/journal-store.ts'
import { insert } from './journal-support.ts'
import { silent } from './support.ts'

const [folder = '', first, count, compactAfter] = process.argv.slice(2)
const store = JournalStore.open(folder, silent, { compactAfter: Number(compactAfter) })
for (let n = Number(first); n < Number(first) + Number(count); n++) {
  const word = tryInsert(n)
  writeSync(1, `${word} ${String(n)}\n`)
}
const names = store.list().map(({ name }) => name.replace('volume-', ''))
writeSync(1, `has ${names.join(' ')}\n`)
store.close()

function tryInsert(n: number): string {
  try {
    insert(store, n)
    return 'ok'
  } catch (error) {
    if (error instanceof ErrnoError) return error.code
    throw error
  }
}
