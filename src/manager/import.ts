/**
 * A volume file that comes from outside: received, put on the disk, and proven sound before anybody relies on it.
 * Keeps: nothing is believed of it; what is refused is named with rule and place.
 * Leaves: its name, its record and what remains of a refused one to volume-files.ts and volume-manager.ts.
 */
import { open as openFile, statfs, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { ErrnoError, messageOf, systemCode, type Logger } from '../base/index.ts'
import { findHeaderFault, headerBytes, type CheckProgress, type Finding } from '../engine/index.ts'
import { checkInProcess } from './check-process.ts'

/** Where a volume file comes from. */
export interface ImportSource {
  /** Opens the stream of its bytes: called once, when nothing stands against the import. */
  readonly open: () => Readable
  /** How many bytes will come, where that is known. */
  readonly sizeBytes: number | undefined
  /** Aborted when nobody wants it any more. */
  readonly signal: AbortSignal
}

/** Left for the volumes that are in use, in bytes: they refuse writes below it (engine/space.ts) and need some for their checkpoints. */
const reserveBytes = 64 << 20

/** How many findings a refusal names. */
const findingsTold = 20

/** How often the log says how far a check is, in ms. */
const progressMs = 5000

/** Writes the bytes to `file`, which must not exist, and syncs it. Throws EINVAL `invalid_volume_file` as soon as it can be known, ENOSPC. */
export async function receiveVolumeFile(file: string, { open, sizeBytes = 0, signal }: ImportSource): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(file))
  if (sizeBytes + reserveBytes > bavail * bsize) throw noSpace(`${String(sizeBytes)} bytes do not fit`)
  const handle = await openFile(file, 'wx', 0o600)
  try {
    await pipeline(open(), assertingHeader, (pieces) => writeAll(handle, pieces), { signal })
    await handle.sync()
  } catch (error) {
    throw explain(error, signal)
  } finally {
    await handle.close() // waits for a write that is under way
  }
}

async function writeAll(handle: FileHandle, pieces: AsyncIterable<Buffer>): Promise<void> {
  for await (const piece of pieces) {
    for (let done = 0; done < piece.length;) done += (await handle.write(piece, done)).bytesWritten
  }
}

/** Proves the file sound: schema, structure, rules, every chunk. Throws EINVAL `invalid_volume_file` with `findings` in its context. */
export async function assertSound(file: string, signal: AbortSignal, log: Logger): Promise<void> {
  const findings = await checkInProcess(file, signal, logProgress(log)).catch((error: unknown) => {
    throw error instanceof ErrnoError && error.problem === 'io_error' ? invalid(error.message, []) : error
  })
  const [first] = findings
  if (first === undefined) return
  const more = findings.length > 1 ? `, and ${String(findings.length - 1)} more findings` : ''
  throw invalid(`${first.place}: breaks "${first.rule}"${more}`, findings)
}

/** Passes everything on, once the first bytes are those of a volume. */
async function* assertingHeader(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let header: Buffer | undefined = Buffer.alloc(0)
  for await (const piece of source) {
    if (header === undefined) {
      yield piece
      continue
    }
    header = Buffer.concat([header, piece])
    if (header.length < headerBytes) continue
    assertHeader(header)
    yield header
    header = undefined
  }
  if (header !== undefined) assertHeader(header) // it is shorter than a header
}

function assertHeader(header: Buffer): void {
  const found = findHeaderFault(header)
  if (found === undefined) return
  const { place, fault, isNewer } = found
  if (!isNewer) throw invalid(`${place}: ${fault}`, [])
  throw new ErrnoError('EINVAL', `import: ${place}: ${fault}`, {
    problem: 'newer_volume_file',
    hint: 'use the litevol that made it, or a newer one',
  })
}

/** What ended the stream: our refusal, the disk, the stop of the manager, or whoever sent it. */
function explain(error: unknown, signal: AbortSignal): unknown {
  if (error instanceof ErrnoError) return error
  if (signal.aborted) return signal.reason
  const code = systemCode(error)
  if (code === 'ENOSPC' || code === 'EDQUOT') return noSpace('the disk became full', error)
  if (code === 'EIO' || code === 'EROFS' || code === 'EACCES') return new ErrnoError(code, `import: ${messageOf(error)}`, { cause: error })
  return new ErrnoError('EINVAL', `import: the body broke off: ${messageOf(error)}`, { cause: error })
}

function logProgress(log: Logger): (progress: CheckProgress) => void {
  let [step, told] = ['', 0]
  return (progress) => {
    if (progress.step === step && Date.now() - told < progressMs) return
    step = progress.step
    told = Date.now()
    log.info(progress, 'import: checking')
  }
}

function invalid(fault: string, findings: readonly Finding[]): ErrnoError {
  return new ErrnoError('EINVAL', `import: ${fault}`, {
    context: { findings: findings.slice(0, findingsTold) },
    problem: 'invalid_volume_file',
  })
}

function noSpace(fault: string, cause?: unknown): ErrnoError {
  return new ErrnoError('ENOSPC', `import: ${fault}`, { hint: 'make room in the data root', cause })
}
