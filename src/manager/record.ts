/**
 * The record of one volume: its schema, and the type that follows from it.
 * Keeps: the one place that says which fields a record has. A new field that may be absent is added here and is done; any other change
 *   of a field also needs a migration (migrations.ts).
 * Leaves: what a field means to volume-manager.ts, the lines of the store to journal.ts.
 */
import { Type, type Static, type TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { driverNames } from '../base/index.ts'

const strict = { additionalProperties: false } as const

/** A volume's id: a UUID in its text form. */
export const idPattern = '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'

const keys = {
  /** UUIDv7 in its text form. */
  id: Type.String({ pattern: `^${idPattern}$` }),
  /** Unique among all records. */
  name: Type.String({ minLength: 1 }),
  /** Name of the volume file in DATA_ROOT/volumes; unique among all records. */
  file: Type.String({ pattern: '^[^/\\0]+$' }),
}

/** `driver` is absent where whichever is configured is meant. */
const PersistSchema = Type.Object({ readOnly: Type.Boolean(), driver: Type.Optional(Type.Enum([...driverNames])) }, strict)

/** The id that an engine gives to one use of a volume: a word. A name that begins with a letter or digit is safe as a key. */
export const attachmentIdPattern = '[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,254}'

const AttachmentsSchema = Type.Object(
  {
    /** The boot in which they were made: none of them outlives it. */
    boot: Type.String(),
    /** Whether the mount was made for them, and ends with the last. */
    ownsMount: Type.Boolean(),
    /** Since when each is, RFC 3339, UTC, by its id. None is left where the mount could not end with the last. */
    since: Type.Record(Type.String({ pattern: `^${attachmentIdPattern}$` }), Type.String(), strict),
  },
  strict,
)

const RecordSchema = Type.Object(
  {
    ...keys,
    /** RFC 3339, UTC. */
    createdAt: Type.String(),
    encrypted: Type.Boolean(),
    /** Mounted again at the start of the manager, and how; null: not. */
    persist: Type.Union([Type.Null(), PersistSchema]),
    /** Who has it attached through the volume plugin (attachments.ts); null: nobody. */
    attachments: Type.Union([Type.Null(), AttachmentsSchema]),
  },
  strict,
)

/** One volume of this manager. */
export type VolumeRecord = Frozen<Static<typeof RecordSchema>>

/** How a volume is mounted again. */
export type PersistentMount = Frozen<Static<typeof PersistSchema>>

/** Who has a volume attached. */
export type AttachmentRecord = Frozen<Static<typeof AttachmentsSchema>>

type Frozen<T> = { readonly [K in keyof T]: T[K] extends object | null ? Frozen<T[K]> : T[K] }

const KeyedSchema = Type.Object(keys)

/** What a record of any version has. */
export type KeyedRecord = Readonly<Static<typeof KeyedSchema>>

/** A kind of value: which values are of it, and what is wrong with one that is not. */
export interface Kind<T> {
  readonly has: (value: unknown) => value is T
  /** `/persist: must be …`; for a value that is not of the kind. */
  readonly fault: (value: unknown) => string
}

/** The kind of a schema. The check is compiled once. */
export function kindOf<S extends TSchema, T = Static<S>>(schema: S): Kind<T> {
  const validator = Compile(schema)
  return {
    has: (value): value is T => validator.Check(value),
    fault: (value) => {
      const [first] = validator.Errors(value)
      return first === undefined ? 'wrong form' : `${first.instancePath === '' ? '' : `${first.instancePath}: `}${first.message}`
    },
  }
}

/** Records as this version has them. */
export const volumeRecords = kindOf<typeof RecordSchema, VolumeRecord>(RecordSchema)

/** Records of an earlier version, before they are migrated. */
export const keyedRecords = kindOf<typeof KeyedSchema, KeyedRecord>(KeyedSchema)
