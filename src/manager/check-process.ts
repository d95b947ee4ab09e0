/**
 * Checking a volume file in a process of its own: a large one takes minutes, and a stranger's may be made to do harm.
 * Keeps: the process can only read the file; it is killed when the check is given up, and has none of our environment.
 * Leaves: what is checked to engine, what follows from it to import.ts.
 */
import { fork } from 'node:child_process'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ErrnoError, fromPlainError, type PlainError } from '../base/index.ts'
import type { CheckProgress, Finding } from '../engine/index.ts'

/** What the process says; `findings` or `error` is its last message. */
export type CheckMessage =
  | { readonly type: 'progress'; readonly progress: CheckProgress }
  | { readonly type: 'findings'; readonly findings: readonly Finding[] }
  | { readonly type: 'error'; readonly error: PlainError }

const program = fileURLToPath(new URL(`check-main${extname(import.meta.url)}`, import.meta.url))

/**
 * Checks a file that nobody writes to, deep. Throws what `checkVolume` throws; EIO when the process dies; the reason of `signal` when it is aborted.
 */
export async function checkInProcess(
  file: string,
  signal: AbortSignal,
  onProgress: (progress: CheckProgress) => void,
): Promise<readonly Finding[]> {
  signal.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers<readonly Finding[]>()
  const child = fork(program, [file], { execArgv: ['--disable-warning=ExperimentalWarning'], env: {}, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }) // prettier-ignore
  const giveUp = (): void => {
    reject(signal.reason as Error)
    child.kill('SIGKILL')
  }
  signal.addEventListener('abort', giveUp)
  child.on('message', (message: CheckMessage) => {
    if (message.type === 'progress') onProgress(message.progress)
    else if (message.type === 'findings') resolve(message.findings)
    else reject(fromPlainError(message.error))
  })
  child.once('error', reject)
  const exited = new Promise<void>((done) => {
    child.once('close', (code, end) => {
      reject(new ErrnoError('EIO', `check of ${file}: its process ended with ${String(end ?? code)}`))
      done()
    })
  })
  try {
    return await promise
  } finally {
    signal.removeEventListener('abort', giveUp)
    if (child.pid !== undefined) await exited // it has the file open until then
  }
}
