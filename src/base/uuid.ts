/**
 * UUID version 7: time-ordered identities (RFC 9562, section 5.7).
 * Keeps: 48 bits of milliseconds, then 74 random bits. Leaves: what is identified to the callers.
 */
import { randomFillSync } from 'node:crypto'

const pool = Buffer.alloc(4096)
let used = pool.length

/** Returns a new UUIDv7 as 16 bytes, the caller's. */
export function uuidv7(): Buffer {
  if (used + 16 > pool.length) {
    randomFillSync(pool)
    used = 0
  }
  const id = Buffer.from(pool.subarray(used, used + 16))
  used += 16
  id.writeUIntBE(Date.now(), 0, 6)
  id.writeUInt8((id.readUInt8(6) & 0x0f) | 0x70, 6)
  id.writeUInt8((id.readUInt8(8) & 0x3f) | 0x80, 8)
  return id
}

/** The 8-4-4-4-12 text of a UUID's 16 bytes. */
export function uuidText(id: Buffer): string {
  const hex = id.toString('hex')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}
