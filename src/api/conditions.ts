/**
 * Conditional and range requests, RFC 9110: the headers If-None-Match, If-Range and Range.
 * Keeps: what cannot be understood counts as not given, as the RFC asks.
 * Leaves: which bytes a tag names to manager.
 */

/** A range as asked for: from `start` up to `end` (inclusive) or the end, or the last `suffix` bytes. */
export type ByteRange = { readonly start: number; readonly end: number | undefined } | { readonly suffix: number }

/** A range of a known length: `end` is not included. */
export interface Slice {
  readonly start: number
  readonly end: number
}

/** Quotes a tag as a strong validator. */
export function strongTag(tag: string): string {
  return `"${tag}"`
}

/** Whether If-None-Match names `etag`, by weak comparison (section 13.1.2). */
export function matchesTag(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false
  if (header.trim() === '*') return true
  return [...header.matchAll(/(?:W\/)?("[^"]*")/g)].some(([, tag]) => tag === etag)
}

/** The tag of an If-Range header, without quotes; undefined for none. A date or a weak tag never matches: an empty text. */
export function parseIfRange(header: string | undefined): string | undefined {
  if (header === undefined) return undefined
  return /^"([^"]*)"$/.exec(header.trim())?.[1] ?? ''
}

/** Parses a Range header with one range; undefined when there is none, several, or one that is not understood (section 14.2). */
export function parseRange(header: string | undefined): ByteRange | undefined {
  const match = /^bytes=\s*(\d*)-(\d*)\s*$/i.exec(header ?? '')
  const [, first = '', last = ''] = match ?? []
  if (first !== '') {
    const range = { start: Number(first), end: last === '' ? undefined : Number(last) }
    return range.end !== undefined && range.end < range.start ? undefined : range
  }
  return last === '' ? undefined : { suffix: Number(last) }
}

/** The part of `size` bytes that a range means; undefined when it cannot be satisfied (section 15.5.17). */
export function sliceOf(range: ByteRange, size: number): Slice | undefined {
  if ('suffix' in range) return range.suffix === 0 || size === 0 ? undefined : { start: Math.max(0, size - range.suffix), end: size }
  if (range.start >= size) return undefined
  return { start: range.start, end: Math.min(size, (range.end ?? size - 1) + 1) }
}
