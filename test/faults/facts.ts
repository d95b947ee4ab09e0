/**
 * What an application may rely on after a power cut: lines of a log that lies outside, each written after the fsync that makes it
 * true; and the comparison of a mount with such a log.
 * Keeps: a later line about a name replaces the earlier one; between `may` and the next line nothing is known about a name.
 * Leaves: making facts true to writer.ts.
 */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Bytes of a block of a file that is overwritten in place. */
export const blockBytes = 4096

export type Fact =
  /** The file has at least so many bytes, and these have that hash. */
  | { readonly kind: 'has'; readonly name: string; readonly size: number; readonly sha256: string }
  /** The file is wholly one of its versions, this one or a later one: see `versionContent`. */
  | { readonly kind: 'version'; readonly name: string; readonly version: number }
  /** The file consists of blocks, each wholly one of its versions, this one or a later one: see `makeBlock`. */
  | { readonly kind: 'blocks'; readonly name: string; readonly versions: readonly number[] }
  | { readonly kind: 'gone'; readonly name: string }
  | { readonly kind: 'may'; readonly name: string }

export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

/** A content that says which version it is, and proves to be whole. */
export function versionContent(version: number, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${version} ${sha256(body)}\n`), body])
}

/** A block that says where it belongs and which version it is, and proves to be whole. */
export function makeBlock(index: number, version: number, filling: Buffer): Buffer {
  const block = Buffer.alloc(blockBytes)
  filling.copy(block, 64)
  block.writeUInt32LE(index, 32)
  block.writeUInt32LE(version, 36)
  createHash('sha256').update(block.subarray(32)).digest().copy(block)
  return block
}

/** Compares what lies below `root` with a log; returns how many facts hold, and what is wrong with the others. */
export function verifyFacts(root: string, log: string): { readonly held: number; readonly faults: readonly string[] } {
  const last = new Map<string, Fact>()
  for (const line of log.split('\n')) {
    if (line === '') continue
    const fact = JSON.parse(line) as Fact
    last.set(fact.name, fact)
  }
  const faults: string[] = []
  let held = 0
  for (const fact of last.values()) {
    if (fact.kind === 'may') continue
    const fault = findFault(join(root, fact.name), fact)
    if (fault === undefined) held++
    else faults.push(`${fact.name}: ${fault} (${JSON.stringify(fact).slice(0, 200)})`)
  }
  return { held, faults }
}

function findFault(path: string, fact: Exclude<Fact, { kind: 'may' }>): string | undefined {
  if (fact.kind === 'gone') return existsSync(path) ? 'is there again' : undefined
  if (!existsSync(path)) return 'is missing'
  const content = readFileSync(path)
  switch (fact.kind) {
    case 'has':
      if (content.length < fact.size) return `has ${content.length} bytes`
      return sha256(content.subarray(0, fact.size)) === fact.sha256 ? undefined : 'has other bytes'
    case 'version':
      return findVersionFault(content, fact.version)
    case 'blocks':
      return findBlockFault(content, fact.versions)
    default:
      return fact satisfies never
  }
}

function findVersionFault(content: Buffer, least: number): string | undefined {
  const end = content.indexOf('\n')
  const [version = '', hash] = content.subarray(0, end).toString().split(' ')
  if (sha256(content.subarray(end + 1)) !== hash) return 'is no whole version'
  return Number(version) >= least ? undefined : `is version ${version}`
}

function findBlockFault(content: Buffer, versions: readonly number[]): string | undefined {
  for (const [index, least] of versions.entries()) {
    const block = content.subarray(index * blockBytes, (index + 1) * blockBytes)
    if (block.length < blockBytes) return `block ${index} is missing`
    const hash = createHash('sha256').update(block.subarray(32)).digest()
    if (!hash.equals(block.subarray(0, 32)) || block.readUInt32LE(32) !== index) return `block ${index} is damaged`
    if (block.readUInt32LE(36) < least) return `block ${index} is version ${block.readUInt32LE(36)}`
  }
  return undefined
}
