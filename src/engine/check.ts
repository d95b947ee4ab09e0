/**
 * Check: proves a volume file consistent: SQLite's structure, the schema, the rules over the tables, and with `deep` every chunk.
 * Keeps: it changes nothing; what is wrong comes with its place in words. A stranger's file is as welcome as our own:
 *   nothing of its schema is run.
 * Leaves: mending to nobody: damage is reported. Opening to inspection.ts, the rules to check-rules.ts.
 */
import Database from 'better-sqlite3'
import { ErrnoError, messageOf } from '../base/index.ts'
import { rules, type Rule } from './check-rules.ts'
import { chunkAddress } from './checksums.ts'
import { decodePiece, decodeWhole, namelessLength } from './codec.ts'
import { translating, type Connection } from './connection.ts'
import { findLengthFault } from './file-length.ts'
import { inspect } from './inspection.ts'
import { Places, describeRow } from './places.ts'
import { readPragma } from './pragmas.ts'
import { bytes, integer, type Row } from './rows.ts'
import { compareSchema } from './schema-objects.ts'
import { addMissingTables, blockSize, piecesPerChunk } from './schema.ts'
import { findWalDamage } from './wal.ts'

/** One broken rule, and one place that breaks it. */
export interface Finding {
  readonly rule: string
  readonly place: string
}

/** How far a check is: bytes of chunks of how many; without them the step has no measure. */
export interface CheckProgress {
  readonly step: 'structure' | 'rules' | 'chunks'
  readonly done?: number
  readonly total?: number
}

export interface CheckOptions {
  /** Also every chunk against its address: reads the whole file. Default false. */
  readonly deep?: boolean
  /** The file is in use by its owner: one committed state of it is checked. Default false: nobody writes to it. */
  readonly isLive?: boolean
  readonly onProgress?: (progress: CheckProgress) => void
}

/** How many rows of one rule are reported. */
const placesPerRule = 20

/** Progress is told once for so many bytes of chunks. */
const progressStep = 64 << 20

const lengthRule = 'the file ends where its header says'
const walRule = 'the WAL is as it was written'
const structureRule = 'the SQLite file is intact'
const schemaRule = 'the schema is that of the format version'
const chunkRule = 'a chunk has the content that its address names'

/**
 * Checks a volume file, its WAL included, and leaves it and what lies beside it as it is.
 * Returns what is wrong, empty when nothing is. Throws ENOENT, EINVAL, EROFS; EIO when it is no SQLite file, no volume, or newer than this code.
 */
export function checkVolume(file: string, { deep = false, isLive = false, onProgress }: CheckOptions = {}): Finding[] {
  const length = isLive ? [] : checkLength(file)
  if (length.length > 0) return length
  const rest = surviving(structureRule, () =>
    inspect(file, { isLive }, (connection) => {
      const schema = checkSchema(connection)
      if (schema.length > 0) return schema // first: an integrity check runs expressions of the schema, and the rules are about our tables
      addMissingTables(connection, versionOf(connection))
      onProgress?.({ step: 'structure' })
      const structure = checkStructure(connection)
      onProgress?.({ step: 'rules' })
      const places = new Places(connection)
      const broken = rules.flatMap((rule) => surviving(rule.rule, () => checkRule(connection, places, rule)))
      const damaged = deep ? surviving(chunkRule, () => checkChunks(connection, places, onProgress)) : []
      return [...structure, ...broken, ...damaged]
    }),
  )
  return isLive ? rest : [...checkWal(file), ...rest]
}

/** What SQLite would drop without a word. */
function checkWal(file: string): Finding[] {
  return surviving(walRule, () => {
    const place = translating(file, () => findWalDamage(file))
    return place === undefined ? [] : [{ rule: walRule, place }]
  })
}

function checkStructure(connection: Connection): Finding[] {
  return surviving(structureRule, () => {
    const lines = connection.prepare<[], string>('PRAGMA integrity_check').pluck(true).all()
    return lines.filter((line) => line !== 'ok').map((place) => ({ rule: structureRule, place }))
  })
}

function checkSchema(connection: Connection): Finding[] {
  return surviving(schemaRule, () => compareSchema(connection, versionOf(connection)).map((place) => ({ rule: schemaRule, place })))
}

/** A file that a copy cut off, or put something behind: what else would be found is noise. */
function checkLength(file: string): Finding[] {
  const place = findLengthFault(file)
  return place === undefined ? [] : [{ rule: lengthRule, place }]
}

/** What cannot be read is a finding too, and the next step is tried. */
function surviving(rule: string, step: () => Finding[]): Finding[] {
  try {
    return step()
  } catch (error) {
    const fault = error instanceof ErrnoError && error.cause !== undefined ? error.cause : error // without the path, which the caller knows
    if (!isDamage(fault)) throw error
    return [{ rule, place: `what cannot be read: ${messageOf(fault)}` }]
  }
}

/** Pages that make no sense, or a row with a NULL where none can be (rows.ts); not what inspect.ts refuses by name. */
function isDamage(error: unknown): boolean {
  if (error instanceof Database.SqliteError) return /^SQLITE_(CORRUPT|IOERR)/.test(error.code)
  return error instanceof ErrnoError && error.code === 'EIO' && 'table' in error.context
}

function checkRule(connection: Connection, places: Places, { rule, kind, query }: Rule): Finding[] {
  const limited = connection.prepare<[], Row>(`SELECT DISTINCT * FROM (${query}) LIMIT ${String(placesPerRule + 1)}`).raw(true)
  const rows = limited.all()
  const shown = rows.slice(0, placesPerRule)
  const words = kind === 'chunk' ? places.chunks(shown.map((row) => integer(row, 0, 'chunks', 'id'))) : shown.map((row) => describeRow(places, kind, row)) // prettier-ignore
  return [...words, ...(rows.length > shown.length ? ['and more'] : [])].map((place) => ({ rule, place }))
}

function checkChunks(connection: Connection, places: Places, onProgress: CheckOptions['onProgress']): Finding[] {
  const total = Number(connection.prepare('SELECT coalesce(sum(size), 0) FROM chunks').pluck(true).get())
  const select = connection.prepare<[], Row>('SELECT id, size, address FROM chunks').raw(true)
  const isIntact = prepareProof(connection)
  const damaged: number[] = []
  let [done, told] = [0, -progressStep]
  for (const row of select.iterate()) {
    if (done - told >= progressStep) onProgress?.({ step: 'chunks', done: (told = done), total })
    const id = integer(row, 0, 'chunks', 'id')
    if (!isIntact(id, bytes(row, 2, 'chunks', 'address'))) damaged.push(id)
    done += integer(row, 1, 'chunks', 'size')
  }
  onProgress?.({ step: 'chunks', done, total })
  return places.chunks(damaged).map((place) => ({ rule: chunkRule, place }))
}

/** Makes what proves a chunk, in pieces or whole: by its checksums, and by its address where it has one. */
function prepareProof(connection: Connection): (id: number, address: Buffer) => boolean {
  const most = String(2 * blockSize) // what is longer is no content, whatever it is
  const pieces = connection
    .prepare<[number, number], Row>(
      `SELECT codec, crc, CASE WHEN length(data) <= ${most} THEN data END FROM pieces WHERE id >= ? AND id < ? ORDER BY id`,
    )
    .raw(true)
  const whole = connection
    .prepare<[number], Row>(
      `SELECT c.size, d.codec, CASE WHEN length(d.data) <= ${most} THEN d.data END, ${hasChecksums(connection) ? 'c.crc' : 'NULL'}, c.address FROM chunks c JOIN chunk_data d ON d.id = c.id WHERE c.id = ?`,
    )
    .raw(true)
  return (id, address) => {
    try {
      const rows = pieces.all(id * piecesPerChunk, (id + 1) * piecesPerChunk)
      const row = rows.length === 0 ? whole.get(id) : undefined
      const content =
        row === undefined
          ? Buffer.concat(rows.map((piece, number) => decodePiece(id * piecesPerChunk + number, piece)))
          : decodeWhole(id, row)
      return address.length === namelessLength || chunkAddress(content).equals(address)
    } catch (error) {
      if (error instanceof ErrnoError && error.code === 'EIO') return false
      throw error
    }
  }
}

/** Version 1 had none. */
const hasChecksums = (connection: Connection): boolean => versionOf(connection) > 1

const versionOf = (connection: Connection): number => readPragma(connection, 'user_version')
