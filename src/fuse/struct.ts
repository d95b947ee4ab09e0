/**
 * What turns an ordered list of `[field, type]` into the size, the decoder and the encoder of a C struct.
 * Keeps: little-endian, no hidden padding (every struct of the protocol is laid out so), reserved bytes written as 0.
 * Leaves: the lists themselves to wire.ts.
 */
import { ErrnoError } from '../base/index.ts'

/**
 * A field's type. `u64` and `i64` become a number: exact below 2^53, which holds for every value that we issued or act on.
 * `offset` is a u64 that must be below 2^53: decoding throws EFBIG. `padN` are N bytes (a multiple of 4) that
 * are reserved, opaque or a nested struct: not decoded, encoded as 0.
 */
export type FieldType = 'u16' | 'u32' | 'i32' | 'u64' | 'i64' | 'offset' | Pad
type Pad = `pad${number}`
export type Field = readonly [name: string, type: FieldType]

/** The decoded form: one number a field, reserved bytes left out. */
export type Values<F extends readonly Field[]> = { [E in F[number] as E[1] extends Pad ? never : E[0]]: number }

/** A field with its place. */
export interface PlacedField {
  readonly name: string
  readonly type: FieldType
  readonly offset: number
  readonly size: number
}

/** A struct of the wire. `decode` and `encode` work at byte `at` of a view that must hold `size` bytes from there. */
export interface Struct<V> {
  readonly name: string
  readonly size: number
  readonly fields: readonly PlacedField[]
  decode(view: DataView, at: number): V
  encode(view: DataView, at: number, values: V): void
}

/** Builds the struct `name` (the C name without `fuse_`) from its list. Decoder and encoder are generated once, as
 *  straight-line code: a loop over the fields costs 10 to 20 times as much a request. */
export function struct<const F extends readonly Field[]>(name: string, list: F): Struct<Values<F>> {
  const fields = place(list)
  const last = fields.at(-1)
  const size = last === undefined ? 0 : last.offset + last.size
  return {
    name,
    size,
    fields,
    decode: generate<Struct<Values<F>>['decode']>(`(view, at) => ({ ${fields.map(decoderOf).join('')} })`),
    encode: generate<Struct<Values<F>>['encode']>(`(view, at, values) => { ${fields.map(encoderOf).join('')} }`),
  }
}

function place(list: readonly Field[]): PlacedField[] {
  let offset = 0
  return list.map(([name, type]) => {
    const placed = { name, type, offset, size: sizeOf(type) }
    offset += placed.size
    return placed
  })
}

function sizeOf(type: FieldType): number {
  if (type.startsWith('pad')) return Number(type.slice(3))
  return type === 'u16' ? 2 : type === 'u32' || type === 'i32' ? 4 : 8
}

function decoderOf({ name, type, offset }: PlacedField): string {
  const word = (at: number): string => `view.getUint32(at + ${at}, true)`
  switch (type) {
    case 'u16':
      return `${name}: view.getUint16(at + ${offset}, true), `
    case 'u32':
      return `${name}: ${word(offset)}, `
    case 'i32':
      return `${name}: view.getInt32(at + ${offset}, true), `
    case 'u64':
      return `${name}: ${word(offset + 4)} * 4294967296 + ${word(offset)}, `
    case 'i64':
      return `${name}: view.getInt32(at + ${offset + 4}, true) * 4294967296 + ${word(offset)}, `
    case 'offset':
      return `${name}: checkOffset(${word(offset + 4)} * 4294967296 + ${word(offset)}), `
    default:
      return ''
  }
}

function encoderOf({ name, type, offset, size }: PlacedField): string {
  const put = (at: number, value: string): string => `view.setUint32(at + ${at}, ${value}, true); `
  if (type === 'u16') return `view.setUint16(at + ${offset}, values.${name}, true); `
  if (size === 4 && !type.startsWith('pad')) return put(offset, `values.${name}`)
  if (!type.startsWith('pad')) {
    // Both setters take their argument modulo 2^32, so a negative number comes out in two's complement.
    return put(offset, `values.${name}`) + put(offset + 4, `Math.floor(values.${name} / 4294967296)`)
  }
  return Array.from({ length: size / 4 }, (_, i) => put(offset + i * 4, '0')).join('')
}

/** The sources are made of the constant lists of wire.ts, never of outside data. */
function generate<T>(source: string): T {
  // eslint-disable-next-line @typescript-eslint/no-implied-eval, @typescript-eslint/no-unsafe-call -- see above
  return new Function('checkOffset', `'use strict'; return ${source}`)(checkOffset) as T
}

function checkOffset(value: number): number {
  if (value <= Number.MAX_SAFE_INTEGER) return value
  throw new ErrnoError('EFBIG', `offset ${value}: past 2^53 - 1`)
}
