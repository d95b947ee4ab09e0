/**
 * What serving one request costs, without the kernel: `node bench/requests.ts [ROUNDS]`. Requests as the kernel would send them go
 * through the dispatcher into a new volume, one after the other; prints the median of the rounds in µs for each kind, and how many
 * frames each adds to the WAL.
 * Keeps: everything lies under one temporary folder (BENCH_DIR, default /var/tmp) and is gone afterwards.
 * Leaves: waiting for the device, and what another process does meanwhile, to bench/run.sh.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { createVolumeFile, Maintenance, Volume } from '../src/engine/index.ts'
import { Dispatcher } from '../src/fuse/dispatcher.ts'
import { opcodes } from '../src/fuse/index.ts'
import { makeSharedFiles } from '../src/mount/open-files.ts'
import { VolumeFilesystem } from '../src/mount/volume-filesystem.ts'
import { send } from '../test/fuse/requests.ts'

const rounds = Number(process.argv[2] ?? 3)
const count = 3000
const folder = mkdtempSync(join(process.env['BENCH_DIR'] ?? '/var/tmp', 'litevol-bench.'))
process.on('exit', () => {
  rmSync(folder, { recursive: true })
})

const u32 = (...values: number[]): Buffer => Buffer.from(new Uint32Array(values).buffer)
const u64 = (...values: number[]): Buffer => Buffer.from(new BigUint64Array(values.map((value) => BigInt(value))).buffer)
const text = (value: string): Buffer => Buffer.from(`${value}\0`)

const file = join(folder, 'volume.sqlite')
createVolumeFile(file, { mode: 0o755 })
const volume = Volume.open(file)
const filesystem = new VolumeFilesystem(volume, {
  shared: makeSharedFiles(),
  handlesFile: join(folder, 'handles'),
  recallsFile: join(folder, 'recalls'),
  isSuccessor: false,
  onFault: (error) => {
    throw error
  },
})
const dispatcher = new Dispatcher(filesystem, {})
let unique = 2

function ask(opcode: number, nodeid: number, body: Buffer, error = 0): Buffer {
  unique += 2
  const reply = send(dispatcher, opcode, body, { nodeid, unique: BigInt(unique) })
  assert.equal(reply?.error ?? 0, error)
  return reply?.payload ?? Buffer.alloc(0)
}

interface Sample {
  readonly micros: number
  readonly frames: number
}
const samples = new Map<string, Sample[]>()
const maintenance = new Maintenance(file)
const countFrames = (): number => maintenance.walFrames().framesRemaining + maintenance.walFrames().framesCheckpointed

/** Asks `times` times; `body` is made before the clock starts. */
function timed(
  name: string,
  opcode: number,
  times: number,
  of: (n: number) => readonly [nodeid: number, body: Buffer],
  error = 0,
): Buffer[] {
  const asked = Array.from({ length: times }, (_, n) => of(n))
  const before = countFrames()
  const start = performance.now()
  const replies = asked.map(([nodeid, body]) => ask(opcode, nodeid, body, error))
  const micros = ((performance.now() - start) / times) * 1000
  samples.set(name, [...(samples.get(name) ?? []), { micros, frames: (countFrames() - before) / times }])
  return replies
}

const nodeidOf = (entry: Buffer): number => Number(entry.readBigUInt64LE(0))
const noChange = u32(0, 0)
/** fuse_setattr_in: valid, padding, fh, size, lock_owner, atime, mtime, ctime, their nanoseconds, mode, unused, uid, gid, unused. */
const setattrBody = (valid: number, seconds: number): Buffer =>
  Buffer.concat([u32(valid, 0), u64(0, 0, 0, seconds, seconds, seconds), u32(0, 0, 0, 0o600, 0, 0, 0, 0)])
const writeBody = (fh: number, offset: number, data: Buffer): Buffer => Buffer.concat([u64(fh, offset), u32(data.length, 1), u64(0), u32(0, 0), data]) // prettier-ignore
const readBody = (fh: number, offset: number, size: number): Buffer => Buffer.concat([u64(fh, offset), u32(size, 0), u64(0), u32(0, 0)])
const randomBlock = (length: number, n: number): Buffer => {
  const block = Buffer.alloc(length, `${String(Math.random())} ${String(n)} `)
  return block
}

function round(number: number): void {
  const directory = nodeidOf(ask(opcodes.MKDIR, 1, Buffer.concat([u32(0o755, 0), text(`d${String(number)}`)])))
  timed('GETATTR', opcodes.GETATTR, count, () => [directory, Buffer.concat([noChange, u64(0)])])
  timed('LOOKUP of nothing', opcodes.LOOKUP, count, (n) => [directory, text(`none${String(n)}`)])
  const created = timed('CREATE', opcodes.CREATE, count, (n) => [directory, Buffer.concat([u32(0x8041, 0o100644, 0o22, 0), text(`f${String(n)}`)])]) // prettier-ignore
  const files = created.map((reply) => ({ ino: nodeidOf(reply), fh: Number(reply.readBigUInt64LE(128)) }))
  const at = (n: number): { ino: number; fh: number } => files[n] ?? { ino: 0, fh: 0 }
  timed('GETXATTR of nothing', opcodes.GETXATTR, count, (n) => [at(n).ino, Buffer.concat([u32(24, 0), text('security.capability')])], -61)
  timed('WRITE 4 KiB, new file', opcodes.WRITE, count, (n) => [at(n).ino, writeBody(at(n).fh, 0, randomBlock(4096, n))])
  timed('SETATTR times', opcodes.SETATTR, count, (n) => [at(n).ino, setattrBody((1 << 5) | (1 << 10), 1_700_000_000 + n)])
  timed('RELEASE', opcodes.RELEASE, count, (n) => [at(n).ino, Buffer.concat([u64(at(n).fh), u32(0, 0), u64(0)])])
  timed('LOOKUP', opcodes.LOOKUP, count, (n) => [directory, text(`f${String(n)}`)])
  timed('READ 4 KiB file', opcodes.READ, count, (n) => [at(n).ino, readBody(0, 0, 4096)])
  timed('UNLINK', opcodes.UNLINK, count, (n) => [directory, text(`f${String(n)}`)])
  timed('FORGET of a removed file', opcodes.FORGET, count, (n) => [at(n).ino, u64(2)])
  const large = ask(opcodes.CREATE, directory, Buffer.concat([u32(0x8041, 0o100644, 0o22, 0), text('large')]))
  const [ino, fh] = [nodeidOf(large), Number(large.readBigUInt64LE(128))]
  timed('WRITE 1 MiB', opcodes.WRITE, 64, (n) => [ino, writeBody(fh, n << 20, randomBlock(1 << 20, n))])
  timed('READ 1 MiB', opcodes.READ, 64, (n) => [ino, readBody(fh, n << 20, 1 << 20)])
  timed('READ 4 KiB, random', opcodes.READ, count, () => [ino, readBody(fh, Math.floor(Math.random() * 16384) * 4096, 4096)])
  timed('WRITE 4 KiB, random', opcodes.WRITE, count, (n) => [ino, writeBody(fh, Math.floor(Math.random() * 16384) * 4096, randomBlock(4096, n))]) // prettier-ignore
}

for (let number = 0; number < rounds; number++) {
  round(number)
  console.error(`bench: round ${String(number + 1)} of ${String(rounds)}`)
}
filesystem.close()
maintenance.close()
volume.close()
const median = (values: readonly number[]): string => (values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0).toFixed(1)
console.log('| request | µs | WAL frames |\n|---|--:|--:|')
for (const [name, values] of samples) {
  console.log(`| ${name} | ${median(values.map(({ micros }) => micros))} | ${median(values.map(({ frames }) => frames))} |`)
}
console.log(`\n${String(rounds)} rounds, medians. ${String(cpus().length)} cores, Node ${process.version}`)
