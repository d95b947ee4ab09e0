/**
 * The two digests of content: what names it, and what proves it. Without anything of ours, for the digest thread loads it.
 * Leaves: what they are of to codec.ts.
 */
import { hash } from 'node:crypto'
import { crc32 } from 'node:zlib'

/** How long an address is, in bytes. */
export const addressLength = 32

/** The address of a chunk, its SHA-256: `addressLength` bytes, equal iff the content is equal. */
export function chunkAddress(content: Buffer): Buffer {
  return hash('sha256', content, 'buffer')
}

/** CRC-32 (ISO 3309, as in zlib) of bytes that follow those of which it was `start`; as a signed number. */
export function checksum(content: Buffer, start = 0): number {
  return crc32(content, start) | 0
}
