/**
 * The volume store as one JSON file, replaced atomically with every transaction.
 * Keeps: the file is whole or refused by name and place; one manager at a time has it (a lock file beside it).
 * Leaves: the meaning of a record to volume-manager.ts.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Type, type Static } from 'typebox'
import { Value } from 'typebox/value'
import { ErrnoError, driverNames, messageOf } from '../base/index.ts'
import { replaceFile } from './atomic-file.ts'
import { FileLock } from './file-lock.ts'
import type { StoreAction, StoreDraft, VolumeRecord, VolumeStore } from './store.ts'

/** Records from before there were two drivers have no `driver`. */
const PersistSchema = Type.Object(
  { readOnly: Type.Boolean(), driver: Type.Optional(Type.Enum([...driverNames])) },
  { additionalProperties: false },
)

const RecordSchema = Type.Object(
  {
    id: Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }),
    name: Type.String({ minLength: 1 }),
    file: Type.String({ pattern: '^[^/\\0]+$' }),
    createdAt: Type.String(),
    encrypted: Type.Boolean(),
    persist: Type.Union([Type.Null(), PersistSchema]),
  },
  { additionalProperties: false },
)

const FileSchema = Type.Object({ format: Type.Literal(1), volumes: Type.Array(RecordSchema) }, { additionalProperties: false })

/** The name of the file in the data root. */
export const storeFileName = 'volumes.json'

export class JsonStore implements VolumeStore {
  readonly #file: string
  readonly #lock: FileLock
  /** Without the lock another manager may have the file. */
  #isOpen = true
  #records: ReadonlyMap<string, VolumeRecord>

  private constructor(file: string, lock: FileLock, records: ReadonlyMap<string, VolumeRecord>) {
    this.#file = file
    this.#lock = lock
    this.#records = records
  }

  /** Opens the store of a data root, which is made if need be. Throws EBUSY when another manager has it, EIO when it is damaged. */
  static open(dataRoot: string): JsonStore {
    mkdirSync(dataRoot, { recursive: true, mode: 0o700 })
    const lock = FileLock.acquire(join(dataRoot, 'manager.lock'))
    try {
      const file = join(dataRoot, storeFileName)
      return new JsonStore(file, lock, readRecords(file))
    } catch (error) {
      lock.release()
      throw error
    }
  }

  list(): readonly VolumeRecord[] {
    return [...this.#records.values()]
  }

  find(id: string): VolumeRecord | undefined {
    return this.#records.get(id)
  }

  transact<T>(_action: StoreAction, change: (draft: StoreDraft) => T): T {
    if (!this.#isOpen) throw new ErrnoError('EAGAIN', `store ${this.#file}: is closed`, { problem: 'stopping' })
    const records = new Map(this.#records)
    const result = change(new Draft(records))
    const volumes = [...records.values()]
    replaceFile(this.#file, `${JSON.stringify({ format: 1, volumes }, undefined, 2)}\n`)
    this.#records = records
    return result
  }

  close(): void {
    this.#isOpen = false
    this.#lock.release()
  }
}

class Draft implements StoreDraft {
  readonly #records: Map<string, VolumeRecord>

  constructor(records: Map<string, VolumeRecord>) {
    this.#records = records
  }

  find(id: string): VolumeRecord | undefined {
    return this.#records.get(id)
  }

  findByName(name: string): VolumeRecord | undefined {
    return [...this.#records.values()].find((record) => record.name === name)
  }

  insert(record: VolumeRecord): void {
    this.#records.set(record.id, record)
  }

  update(id: string, change: Partial<Omit<VolumeRecord, 'id'>>): void {
    this.#records.set(id, { ...this.#get(id), ...change })
  }

  remove(id: string): void {
    this.#get(id)
    this.#records.delete(id)
  }

  #get(id: string): VolumeRecord {
    const record = this.#records.get(id)
    if (record === undefined) throw new ErrnoError('ENOENT', `volume ${id}: not in the store`)
    return record
  }
}

function readRecords(file: string): Map<string, VolumeRecord> {
  if (!existsSync(file)) return new Map()
  const content = readFileSync(file, 'utf8')
  const { volumes } = check(file, parse(file, content))
  const records = new Map<string, VolumeRecord>()
  for (const [index, record] of volumes.entries()) {
    const twin = [...records.values()].find((other) => other.id === record.id || other.name === record.name)
    if (twin !== undefined) throw damaged(file, `/volumes/${String(index)}: id or name appears twice`)
    records.set(record.id, record)
  }
  return records
}

function parse(file: string, content: string): unknown {
  try {
    return JSON.parse(content)
  } catch (error) {
    throw damaged(file, describeSyntaxError(content, messageOf(error)))
  }
}

/** V8 names the position in most of its messages; without one the content ended too early. */
function describeSyntaxError(content: string, message: string): string {
  const position = Number(/at position (\d+)/.exec(message)?.[1] ?? content.length)
  const before = content.slice(0, position).split('\n')
  return `line ${String(before.length)}, column ${String((before.at(-1) ?? '').length + 1)}: not JSON`
}

function check(file: string, value: unknown): Static<typeof FileSchema> {
  if (Value.Check(FileSchema, value)) return value
  const [first] = Value.Errors(FileSchema, value)
  throw damaged(
    file,
    `${first?.instancePath === '' ? 'top level' : (first?.instancePath ?? 'top level')}: ${first?.message ?? 'wrong form'}`,
  )
}

function damaged(file: string, place: string): ErrnoError {
  return new ErrnoError('EIO', `store ${file}: damaged at ${place}`, {
    hint: 'put a good copy in its place; the volume files are not touched',
    problem: 'store_damaged',
  })
}
