/**
 * A look at the store of a data root from outside, without its lock: what `litevol store` shows.
 * Keeps: it only reads, and may do so while a manager writes; what it takes for sound is what a start would take.
 * Leaves: printing to cli.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ErrnoError, messageOf, systemCode } from '../base/index.ts'
import { firstStoreName } from './first-store.ts'
import { decodeJournal, type Journal, type PatchOperation } from './journal.ts'
import { previousSuffix } from './journal-file.ts'
import { storeFileName } from './journal-store.ts'
import { migrations } from './migrations.ts'
import { replay, type RecordChange } from './replay.ts'

/** One entry of the history. */
export type HistoryEntry =
  | {
      readonly kind: 'snapshot'
      readonly generation: number
      readonly at: string
      /** `new store`, `compaction`, …. */
      readonly why: string
      /** How many there were. */
      readonly volumes: number
    }
  | {
      readonly kind: 'change'
      readonly seq: number
      readonly at: string
      readonly who: string
      readonly action: string
      readonly patch: readonly PatchOperation[]
      /** The records touched, before and after; undefined: there was none. */
      readonly records: readonly RecordChange[]
    }

export interface StoreInspection {
  readonly file: string
  readonly sizeBytes: number
  readonly generation: number
  /** Records after all changes. */
  readonly volumes: number
  /** Changes since the snapshot. */
  readonly changes: number
  /** Oldest first; from the beginning of the file that the last compaction put away, if that can be read. */
  readonly history: readonly HistoryEntry[]
  /** What is worth a word, though a start would take it: a torn last line, older history that cannot be read. */
  readonly notes: readonly string[]
}

interface Read {
  readonly journal: Journal
  readonly history: readonly HistoryEntry[]
  readonly volumes: number
}

/** Reads and checks the store. Throws ENOENT, EIO `store_damaged` naming line and byte, EIO `newer_format`. */
export function inspectStore(dataRoot: string): StoreInspection {
  const file = join(dataRoot, storeFileName)
  const bytes = readStore(file, join(dataRoot, firstStoreName))
  const { journal, history, volumes } = read(file, bytes)
  const older = readOlder(file + previousSuffix, journal)
  return {
    file,
    sizeBytes: bytes.length,
    generation: journal.header.generation,
    volumes,
    changes: journal.changes.length,
    history: [...older.history, ...history],
    notes: [...older.notes, ...describeTorn(journal)],
  }
}

function read(file: string, bytes: Buffer): Read {
  const journal = decodeJournal(file, bytes)
  const { generation, at, why } = journal.header
  const history: HistoryEntry[] = [{ kind: 'snapshot', generation, at, why, volumes: journal.records.length }]
  const { size } = replay(file, journal, migrations, ({ seq, at, who, action, patch }, records) => {
    history.push({ kind: 'change', seq, at, who, action, patch, records })
  })
  return { journal, history, volumes: size }
}

/** The generation before, when it leads up to this one. One that is as new was put away by a compaction that is still under way. */
function readOlder(file: string, { header }: Journal): { readonly history: readonly HistoryEntry[]; readonly notes: readonly string[] } {
  try {
    if (!existsSync(file)) return { history: [], notes: [] }
    const { journal, history } = read(file, readFileSync(file))
    if (journal.header.generation !== header.generation - 1) return { history: [], notes: [] }
    return { history, notes: [] }
  } catch (error) {
    return { history: [], notes: [`older history cannot be read: ${messageOf(error)}`] }
  }
}

function describeTorn({ torn }: Journal): string[] {
  if (torn === undefined) return []
  const place = `line ${String(torn.number)}, byte ${String(torn.offset)}`
  return [`the last line (${place}, ${String(torn.bytes)} bytes) is not whole: it is being written, or the next start cuts it off`]
}

function readStore(file: string, firstFile: string): Buffer {
  try {
    return readFileSync(file)
  } catch (cause) {
    if (systemCode(cause) !== 'ENOENT') throw new ErrnoError('EIO', `store ${file}: ${messageOf(cause)}`, { cause })
    const hint = existsSync(firstFile) ? `litevol serve takes ${firstFile} over, which the first version wrote` : 'name its folder by --data-root' // prettier-ignore
    throw new ErrnoError('ENOENT', `store ${file}: does not exist`, { cause, hint })
  }
}
