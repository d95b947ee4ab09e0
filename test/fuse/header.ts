/**
 * A reader of `linux/fuse.h` for the tests: structs with offsets, #defines and enum values.
 * Keeps: a nested struct is one field of its size, as in wire.ts. Leaves: comparing to wire.test.ts.
 */
import { existsSync, readFileSync } from 'node:fs'

export const HEADER = '/usr/include/linux/fuse.h'
export const hasHeader = existsSync(HEADER)

export interface HeaderField {
  readonly name: string
  readonly offset: number
  readonly size: number
}

const typeSizes: Readonly<Record<string, number>> = { uint64_t: 8, int64_t: 8, uint32_t: 4, int32_t: 4, uint16_t: 2, char: 1 }

/** The header without its comments. */
export function readHeader(): string {
  return readFileSync(HEADER, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '')
}

/** Every struct, without its `fuse_`, as fields at their offsets. No struct of the header has hidden padding. */
export function structsOf(header: string): Map<string, HeaderField[]> {
  const structs = new Map<string, HeaderField[]>()
  for (const [, name = '', body = ''] of header.matchAll(/struct (\w+) \{([^}]*)\}/g)) {
    structs.set(name.replace(/^fuse_/, ''), fieldsOf(body, structs))
  }
  return structs
}

function fieldsOf(body: string, structs: Map<string, HeaderField[]>): HeaderField[] {
  const fields: HeaderField[] = []
  let offset = 0
  for (const [, nested, type = '', name = '', count] of body.matchAll(/(?:struct fuse_(\w+)|(\w+))\s+(\w+)(?:\[(\d*)\])?;/g)) {
    const size =
      nested === undefined ? (typeSizes[type] ?? Number.NaN) * (count === undefined ? 1 : Number(count)) : sizeOf(nested, structs)
    fields.push({ name, offset, size })
    offset += size
  }
  return fields.filter(({ size }) => size > 0)
}

function sizeOf(name: string, structs: Map<string, HeaderField[]>): number {
  const last = structs.get(name)?.at(-1)
  if (last === undefined) throw new Error(`struct ${name} is used before it is defined`)
  return last.offset + last.size
}

/** Every #define of a flag (as `1 << n`, `1ULL << n` or a number) and every enum value, by C name. Values below 2^63. */
export function constantsOf(header: string): Map<string, bigint> {
  const constants = new Map<string, bigint>()
  for (const [, name = '', shift, number] of header.matchAll(/#define\s+(\w+)\s+(?:\(1(?:ull|ULL)? << (\d+)\)|(\d+)\s)/g)) {
    constants.set(name, shift === undefined ? BigInt(number ?? 0) : 1n << BigInt(shift))
  }
  for (const [, body = ''] of header.matchAll(/enum \w+ \{([^}]*)\}/g)) {
    for (const [, name = '', number = ''] of body.matchAll(/(\w+)\s*=\s*(\d+)/g)) constants.set(name, BigInt(number))
  }
  return constants
}
