/**
 * Flushing what applications have written: fsync(2), through the mountpoint, of each inode that is open for writing.
 * Keeps: when it returns, every write(2) that had returned before the call is in the volume. Under the write-back cache
 *   only files open for writing have dirty pages (close flushes); `sync -f` is no flush for FUSE (design, section 7).
 * Leaves: which inodes those are to the caller. Another process does it: one that waits on a mount must not hold the
 *   mount's device, or its death could not end the connection. It sees the volume by a bind of its own, in a mount
 *   namespace of its own, so that nothing mounted on a directory of the volume hides a file.
 */
import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { ErrnoError, type Ino } from '../base/index.ts'

/** How long all of it may take, in ms: the dirty pages of a large machine over a slow disk. */
const timeoutMs = 300_000

/** A file may be renamed between looking up its path and opening it: it is then looked up again, so many times. */
const rounds = 50

/** The bytes that end each path on xargs' input. */
const nul = Buffer.alloc(1)

/** Paths are relative to the mountpoint: a leading `./` keeps a name from being taken for an option. */
const here = Buffer.from('./')

/** What is open for writing, and where it lies. */
export interface OpenInodes {
  /** The inodes open for writing now: closing one flushes it. */
  readonly list: () => Ino[]
  /** Their paths from the volume's root; one without a name has none. */
  readonly paths: (inodes: readonly Ino[]) => Buffer[]
}

/**
 * Flushes every inode that is open for writing when this is called. One that has moved while it was looked up is looked up
 * again; one that was closed or lost its name meanwhile needs no flush any more. Throws EIO, ETIMEDOUT.
 */
export async function flushFiles(mountpoint: string, open: OpenInodes): Promise<void> {
  let waiting = open.list()
  let fault = ''
  for (let round = 0; round < rounds; round++) {
    const paths = open.paths(waiting)
    if (paths.length === 0) return
    fault = await runSync(mountpoint, paths)
    if (fault === '') return
    const still = new Set(open.list())
    waiting = waiting.filter((ino) => still.has(ino))
  }
  throw new ErrnoError('EIO', `mount ${mountpoint}: files could not be flushed: ${fault}`)
}

/** Begins in the volume's root, seen by a bind: a bind of $1 carries no mounts that lie below it. Without descriptor 3, where libfuse has the device. */
const enter = 'exec 3<&-; mount -n -i -c --bind -- "$1" "$1" && cd -- "$1" && exec xargs -0 -r -x'

/** Standard input: the files. */
const syncFiles = `${enter} sync --`

/** Standard input: one file whose path is longer than PATH_MAX, cut into directories to go through one after the other. */
const syncDeepFile = `${enter} sh -c 'while [ $# -gt 1 ]; do cd -P -- "$1" || exit 1; shift; done; exec sync -- "$1"' sh`

/** Bytes of a path that one call takes: PATH_MAX of limits.h, with room for the leading `./`. */
const maximumPath = 4000

/** Flushes the files; returns the complaints, '' when all were flushed. */
async function runSync(mountpoint: string, paths: readonly Buffer[]): Promise<string> {
  const near = paths.filter((path) => path.length <= maximumPath)
  const complaints = [near.length === 0 ? '' : await run(syncFiles, mountpoint, near)]
  for (const path of paths) if (path.length > maximumPath) complaints.push(await run(syncDeepFile, mountpoint, cutPath(path)))
  return complaints.join('')
}

/** The path in pieces of at most `maximumPath` bytes, each but the last a directory. */
function cutPath(path: Buffer): Buffer[] {
  const pieces: Buffer[] = []
  let rest = path
  while (rest.length > maximumPath) {
    const cut = rest.lastIndexOf('/', maximumPath)
    pieces.push(rest.subarray(0, cut))
    rest = rest.subarray(cut + 1)
  }
  return [...pieces, rest]
}

/** Runs a script in a mount namespace of its own, which follows unmounts in ours so that it keeps no other mount alive; names as bytes on its standard input; returns its complaints. */
async function run(script: string, mountpoint: string, names: readonly Buffer[]): Promise<string> {
  const args = ['--mount', '--propagation', 'slave', 'sh', '-c', script, 'sh', mountpoint]
  const child = spawn('unshare', args, { stdio: ['pipe', 'ignore', 'pipe'], timeout: timeoutMs, killSignal: 'SIGKILL' })
  const exited = Promise.withResolvers<[code: number | null, signal: string | null]>()
  child.once('error', exited.reject)
  child.once('exit', (code, signal) => {
    exited.resolve([code, signal])
  })
  child.stdin.on('error', () => undefined) // it ended early: its exit code tells
  child.stdin.end(Buffer.concat(names.flatMap((name) => [here, name, nul])))
  const complaints = await text(child.stderr)
  const [code, signal] = await exited.promise
  if (signal !== null) throw new ErrnoError('ETIMEDOUT', `mount ${mountpoint}: flushing took longer than ${String(timeoutMs / 1000)} s`)
  return code === 0 ? '' : complaints.trim() || `sync ended with ${String(code)}`
}
