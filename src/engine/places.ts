/**
 * Where in a volume something lies, in words for people: `inode 12 (/a/b)`.
 * Keeps: every place gets words, also in a damaged tree; a name that is no printable text is shown with `\xNN`.
 * Leaves: what is wrong there to check.ts.
 */
import { isUtf8 } from 'node:buffer'
import type { Ino } from '../base/index.ts'
import type { Connection, Statement } from './connection.ts'
import { Dentries } from './dentries.ts'
import { bytes, integer, type Row } from './rows.ts'

/** A path that climbs further is a ring. */
const maximumDepth = 10_000

/** How many paths of a chunk are named. */
const pathsPerChunk = 5

export class Places {
  readonly #connection: Connection
  readonly #dentries: Dentries
  readonly #selectParent: Statement<[number], Row>
  /** Read when it is first needed: in a damaged file that may fail. */
  #roots: ReadonlySet<number> | undefined

  constructor(connection: Connection) {
    this.#connection = connection
    this.#dentries = new Dentries(connection)
    this.#selectParent = connection.prepare<[number], Row>('SELECT parent FROM inodes WHERE ino = ?').raw(true)
  }

  inode(ino: number): string {
    return `inode ${String(ino)} (${this.#path(ino) ?? 'without a path'})`
  }

  /** A name in a directory. */
  entry(parent: number, name: Buffer): string {
    const folder = this.#path(parent)
    if (folder === undefined) return `entry ${printable(name)} in inode ${String(parent)} (without a path)`
    return `entry ${folder === '/' ? '' : folder}/${printable(name)}`
  }

  /** Chunks, each with the files that it is part of: one pass over the extents. */
  chunks(ids: readonly number[]): string[] {
    const files = new Map(ids.map((id) => [id, new Set<number>()]))
    if (ids.length === 0) return []
    for (const row of this.#connection.prepare<[], Row>('SELECT chunk, ino FROM extents').raw(true).iterate()) {
      files.get(integer(row, 0, 'extents', 'chunk'))?.add(integer(row, 1, 'extents', 'ino'))
    }
    return [...files].map(([id, inos]) => `chunk ${String(id)} (${this.#list([...inos])})`)
  }

  #list(inos: readonly number[]): string {
    const paths = inos.slice(0, pathsPerChunk).map((ino) => this.#path(ino) ?? `inode ${String(ino)}`)
    const more = inos.length > pathsPerChunk ? [`${String(inos.length - pathsPerChunk)} more`] : []
    return inos.length === 0 ? 'of no file' : [...paths, ...more].join(', ')
  }

  /** A path from the root; undefined when there is none. */
  #path(ino: number): string | undefined {
    const roots = (this.#roots ??= new Set(this.#connection.prepare<[], number>('SELECT root FROM volumes').pluck(true).all()))
    const names: string[] = []
    for (let at = ino; !roots.has(at) && names.length < maximumDepth;) {
      const place = this.#dentries.locate(at as Ino, this.#parentOf(at))
      if (place === undefined) return undefined
      names.push(printable(place.name))
      at = place.parent
    }
    return names.length < maximumDepth ? `/${names.toReversed().join('/')}` : undefined
  }

  #parentOf(ino: number): Ino {
    const row = this.#selectParent.get(ino)
    return (row === undefined ? 0 : integer(row, 0, 'inodes', 'parent')) as Ino
  }
}

/** A row of a rule, as the kind of the rule says: `[ino]`, `[parent, name]`, or words. */
export function describeRow(places: Places, kind: 'inode' | 'entry' | 'words', row: Row): string {
  if (kind === 'inode') return places.inode(integer(row, 0, 'inodes', 'ino'))
  if (kind === 'entry') return places.entry(integer(row, 0, 'dentries', 'parent'), bytes(row, 1, 'dentries', 'name'))
  return row.map(String).join(' ')
}

/** Backslashes and control characters, and all that is not UTF-8, as `\xNN`. */
function printable(name: Buffer): string {
  if (isUtf8(name) && !/[\u0000-\u001f\u007f-\u009f\\]/.test(name.toString())) return name.toString()
  const escape = (byte: number): string =>
    byte < 0x20 || byte > 0x7e || byte === 0x5c ? `\\x${byte.toString(16).padStart(2, '0')}` : String.fromCharCode(byte)
  return [...name].map(escape).join('')
}
