/**
 * The store of the first version: `volumes.json`, one JSON object, replaced whole with every change. It is only read.
 * Keeps: the file is whole or refused by name and place; once taken over it stays beside the new store as a backup.
 * Leaves: what becomes of the records to migrations.ts.
 */
import { existsSync, readFileSync } from 'node:fs'
import { Type } from 'typebox'
import { Value } from 'typebox/value'
import { ErrnoError, driverNames, messageOf } from '../base/index.ts'
import { renameDurably } from './atomic-file.ts'

/** The name of the file in the data root. */
export const firstStoreName = 'volumes.json'

/** What is appended to its name when the new store is on the disk. */
const backupSuffix = '.taken-over'

/** The last builds that wrote the file knew of two drivers. */
const PersistSchema = Type.Object(
  { readOnly: Type.Boolean(), driver: Type.Optional(Type.Enum([...driverNames])) },
  { additionalProperties: false },
)

const FileSchema = Type.Object(
  {
    format: Type.Literal(1),
    volumes: Type.Array(
      Type.Object(
        {
          id: Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }),
          name: Type.String({ minLength: 1 }),
          file: Type.String({ pattern: '^[^/\\0]+$' }),
          createdAt: Type.String(),
          encrypted: Type.Boolean(),
          persist: Type.Union([Type.Null(), PersistSchema]),
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
)

/** The records of `file`, oldest first. Throws EIO `store_damaged`. */
export function readFirstStore(file: string): readonly unknown[] {
  const value = parse(file, readFileSync(file, 'utf8'))
  if (Value.Check(FileSchema, value)) return value.volumes
  const [first] = Value.Errors(FileSchema, value)
  const place = first?.instancePath ?? ''
  throw firstStoreDamaged(file, `${place === '' ? 'top level' : place}: ${first?.message ?? 'wrong form'}`)
}

/** Call when the new store is on the disk. Does nothing when there is no `file`. Throws EIO when there is a backup already. */
export function keepFirstStore(file: string): void {
  if (!existsSync(file)) return
  if (existsSync(file + backupSuffix)) {
    throw new ErrnoError('EIO', `store ${file}: was written after an earlier one was taken over into another file`, {
      hint: 'an earlier litevol ran on this data root: keep one of the two stores and move the other away',
      problem: 'store_damaged',
    })
  }
  renameDurably(file, file + backupSuffix)
}

/** The error for a file that the first version cannot have written. */
export function firstStoreDamaged(file: string, place: string): ErrnoError {
  return new ErrnoError('EIO', `store ${file}: damaged at ${place}`, {
    hint: 'put a good copy in its place; the volume files are not touched',
    problem: 'store_damaged',
  })
}

function parse(file: string, content: string): unknown {
  try {
    return JSON.parse(content)
  } catch (error) {
    throw firstStoreDamaged(file, describeSyntaxError(content, messageOf(error)))
  }
}

/** V8 names the position in most of its messages; without one the content ended too early. */
function describeSyntaxError(content: string, message: string): string {
  const position = Number(/at position (\d+)/.exec(message)?.[1] ?? content.length)
  const before = content.slice(0, position).split('\n')
  return `line ${String(before.length)}, column ${String((before.at(-1) ?? '').length + 1)}: not JSON`
}
