/**
 * The bytes of the store: `volumes.jsonl`, one JSON object a line, as docs/format.md describes it.
 * Keeps: each line says its length and checksum first, so that a last line that was torn by a crash is told from damage. Only a change
 *   can be torn: what stands before the first change was renamed into place whole.
 * Leaves: what the lines amount to to replay.ts, the disk to journal-file.ts.
 */
import { crc32 } from 'node:zlib'
import { Type, type Static } from 'typebox'
import { ErrnoError, messageOf } from '../base/index.ts'
import { idPattern, kindOf, type Kind } from './record.ts'

/** The version of the lines; that of the records in them is `schema`. */
const formatVersion = 1

const strict = { additionalProperties: false } as const
const frame = { len: Type.Integer(), crc: Type.String() }
const count = Type.Integer({ minimum: 0 })
const path = Type.String({ pattern: `^/${idPattern}(/[^/]+)*$` })

const HeaderSchema = Type.Object(
  {
    ...frame,
    store: Type.Literal('litevol'),
    format: Type.Literal(formatVersion),
    schema: count,
    generation: Type.Integer({ minimum: 1 }),
    at: Type.String(),
    why: Type.String(),
    seq: count,
    records: count,
  },
  strict,
)

const RecordLineSchema = Type.Object({ ...frame, record: Type.Unknown() }, strict)

const OperationSchema = Type.Union([
  Type.Object({ op: Type.Literal('add'), path, value: Type.Unknown() }, strict),
  Type.Object({ op: Type.Literal('replace'), path, value: Type.Unknown() }, strict),
  Type.Object({ op: Type.Literal('remove'), path }, strict),
])

const ChangeSchema = Type.Object(
  {
    ...frame,
    seq: Type.Integer({ minimum: 1 }),
    at: Type.String(),
    who: Type.String(),
    action: Type.String(),
    patch: Type.Array(OperationSchema, { minItems: 1 }),
  },
  strict,
)

/** The first line: the snapshot that follows it. */
export interface JournalHeader {
  /** Version of the records: how many migrations they have been through. */
  readonly schema: number
  /** Counts the snapshots of this store, from 1. */
  readonly generation: number
  /** When it was taken; RFC 3339, UTC. */
  readonly at: string
  /** `new store`, `compaction`, …. */
  readonly why: string
  /** The number of the last change that is in the snapshot; 0: none. */
  readonly seq: number
}

/** An operation of RFC 6902 on the object of all records by id: the first part of `path` is a volume's id. */
export type PatchOperation = Readonly<Static<typeof OperationSchema>>

/** One transaction. */
export interface JournalChange {
  /** Counts the changes of this store, from 1, without a gap. */
  readonly seq: number
  readonly at: string
  readonly who: string
  readonly action: string
  readonly patch: readonly PatchOperation[]
}

/** Where a line begins: `number` from 1, `offset` in bytes from 0. */
export interface LinePlace {
  readonly number: number
  readonly offset: number
}

export interface JournalLine<T> extends LinePlace {
  readonly body: T
}

/** A file taken apart; no patch has been applied yet. */
export interface Journal {
  readonly header: JournalHeader
  readonly records: readonly JournalLine<unknown>[]
  readonly changes: readonly JournalLine<JournalChange>[]
  /** Bytes of whole lines. */
  readonly length: number
  /** The last line, when it was not written to its end. */
  readonly torn: (LinePlace & { readonly bytes: number }) | undefined
}

const headers = kindOf(HeaderSchema)
const recordLines = kindOf(RecordLineSchema)
const changeLines = kindOf(ChangeSchema)

/** What every line begins with; `len` bytes with the checksum `crc` and a newline follow. */
const headPattern = /^\{"len":([1-9]\d{0,8}),"crc":"([0-9a-f]{8})",/
const headStart = '{"len":'
const longestHead = headStart.length + 9 + ',"crc":"01234567",'.length
const newline = 0x0a

/** The unit in which a disk keeps or loses bytes that were not synced. */
const pageBytes = 4096

/** The line of a change. */
export function encodeChange({ seq, at, who, action, patch }: JournalChange): Buffer {
  return encodeLine({ seq, at, who, action, patch })
}

/** A whole file: header and records, no change. */
export function encodeSnapshot({ schema, generation, at, why, seq }: JournalHeader, records: readonly unknown[]): Buffer {
  const header = { store: 'litevol', format: formatVersion, schema, generation, at, why, seq, records: records.length }
  return Buffer.concat([encodeLine(header), ...records.map((record) => encodeLine({ record }))])
}

/** Takes a file apart. Throws EIO `store_damaged` naming line and byte, EIO `newer_format`. */
export function decodeJournal(file: string, bytes: Buffer): Journal {
  const length = wholeLength(bytes)
  const [first, ...lines] = decodeLines(file, bytes.subarray(0, length))
  if (first === undefined) throw damaged(file, { number: 1, offset: 0 }, 'no header')
  refuseNewer(file, first)
  const header = checkLine(file, first, headers).body
  const split = header.records
  if (lines.length < split)
    throw damaged(file, { number: lines.length + 2, offset: length }, `${String(split)} records were written, here they end`)
  return {
    header,
    records: lines.slice(0, split).map((line) => ({ ...line, body: checkLine(file, line, recordLines).body.record })),
    changes: lines.slice(split).map((line) => checkLine(file, line, changeLines)),
    length,
    torn: findTorn(file, bytes, { number: lines.length + 2, offset: length }),
  }
}

/** The error for a line that cannot have been written so. */
export function damaged(file: string, { number, offset }: LinePlace, fault: string): ErrnoError {
  return new ErrnoError('EIO', `store ${file}: damaged at line ${String(number)}, byte ${String(offset)}: ${fault}`, {
    context: { file, line: number, byte: offset },
    hint: 'put a good copy in its place, or cut it off before that byte, which gives up the changes from there on; volume files are not touched',
    problem: 'store_damaged',
  })
}

function encodeLine(body: object): Buffer {
  const rest = Buffer.from(JSON.stringify(body).slice(1))
  const crc = crc32(rest).toString(16).padStart(8, '0')
  return Buffer.concat([Buffer.from(`${headStart}${String(rest.length)},"crc":"${crc}",`), rest, Buffer.of(newline)])
}

/** `bytes` end with a newline, or are none. */
function decodeLines(file: string, bytes: Buffer): JournalLine<unknown>[] {
  const lines: JournalLine<unknown>[] = []
  for (let offset = 0; offset < bytes.length;) {
    const end = bytes.indexOf(newline, offset)
    const place = { number: lines.length + 1, offset }
    lines.push({ ...place, body: decodeLine(file, place, bytes.subarray(offset, end)) })
    offset = end + 1
  }
  return lines
}

function decodeLine(file: string, place: LinePlace, bytes: Buffer): unknown {
  const [head, len, crc] = headPattern.exec(bytes.toString('latin1', 0, longestHead)) ?? []
  if (head === undefined || len === undefined || crc === undefined) throw damaged(file, place, 'not a line of the store')
  const rest = bytes.subarray(head.length)
  if (rest.length !== Number(len)) throw damaged(file, place, `${len} bytes were written, here are ${String(rest.length)}`)
  if (crc32(rest) !== Number.parseInt(crc, 16)) throw damaged(file, place, 'the checksum differs')
  try {
    return JSON.parse(bytes.toString())
  } catch (error) {
    throw damaged(file, place, messageOf(error))
  }
}

function checkLine<T>(file: string, line: JournalLine<unknown>, kind: Kind<T>): JournalLine<T> {
  const { body } = line
  if (!kind.has(body)) throw damaged(file, line, kind.fault(body))
  return { ...line, body }
}

/** A header that is whole but of another format was written by a later litevol. */
function refuseNewer(file: string, { body }: JournalLine<unknown>): void {
  const format = typeof body === 'object' && body !== null && 'format' in body ? body.format : undefined
  if (typeof format === 'number' && format > formatVersion) throw newerStore(file, `format ${String(format)}`)
}

/** The error for a store of a later litevol; `what` it has: `format 2`. */
export function newerStore(file: string, what: string): ErrnoError {
  return new ErrnoError('EIO', `store ${file}: has ${what}, which this litevol does not know`, {
    hint: 'start the litevol that wrote it, or a later one',
    problem: 'newer_format',
  })
}

/** Where the last line that is not torn ends: one with a newline is torn when the disk never got a page of it. */
function wholeLength(bytes: Buffer): number {
  const end = bytes.lastIndexOf(newline) + 1
  const start = end < 2 ? 0 : bytes.lastIndexOf(newline, end - 2) + 1
  return lacksPage(bytes.subarray(0, end), start) ? start : end
}

/** Whether `bytes`, from `start` on, are zero from there or from the start of a page on to the end of that page: no line has a zero. */
function lacksPage(bytes: Buffer, start: number): boolean {
  for (let at = start; at < bytes.length;) {
    const end = Math.min(bytes.length, at - (at % pageBytes) + pageBytes)
    if (bytes.subarray(at, end).every((byte) => byte === 0)) return true
    at = end
  }
  return false
}

/**
 * `tail` follows the last newline. It is torn when it is shorter than it says, or when the file was made longer on the disk and a page
 * of it was not written; otherwise its newline is damaged.
 */
function findTorn(file: string, bytes: Buffer, place: LinePlace): Journal['torn'] {
  const tail = bytes.subarray(place.offset)
  if (tail.length === 0) return undefined
  if (lacksPage(bytes, place.offset)) return { ...place, bytes: tail.length }
  const text = tail.toString('latin1', 0, longestHead)
  const [head, len] = headPattern.exec(text) ?? []
  const isShort = tail.length < longestHead && (text.startsWith(headStart) || headStart.startsWith(text))
  const isTorn = head === undefined ? isShort : tail.length <= head.length + Number(len)
  if (!isTorn) throw damaged(file, place, 'does not end as a line does')
  return { ...place, bytes: tail.length }
}
