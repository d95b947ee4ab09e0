/**
 * The FUSE process: serves one volume file at one mountpoint. Started with StartOptions as its one argument.
 * Keeps: it ends by itself when its mount is gone (exit 0), when SIGTERM or SIGINT comes or its starter dies (after a
 *   forced unmount, exit 0; detached it outlives its starter), or when it cannot serve (exit 1). What it says goes over the IPC channel if there is one.
 * Leaves: everything but the channel and the signals to serving.ts.
 */
import { ErrnoError, makeLogger, messageOf, toPlainError } from '../base/index.ts'
import { protocol, type CallMessage, type CallName, type Calls, type ProcessMessage, type StartOptions } from './messages.ts'
import { Serving } from './serving.ts'

const options = parseOptions(process.argv[2])
const logger = makeLogger('litevol-fuse', options.logLevel).child({ file: options.file })

/** The supervisor has ordered the unmount: it has ended its exports before, and need not be told. */
let isOrdered = false

/** This process unmounts by itself, for a reason that leaves no choice. */
let isStopping = false

function parseOptions(argument: string | undefined): StartOptions {
  const parsed: unknown = JSON.parse(argument ?? 'null')
  const isOurs = typeof parsed === 'object' && parsed !== null && 'protocol' in parsed && parsed.protocol === protocol
  if (!isOurs) throw new ErrnoError('EPROTO', `start options: protocol ${String(protocol)} is needed: started by another version?`)
  return parsed as StartOptions
}

/** The starter may end and leave this process to itself. */
let isOnItsOwn = false

/** What has been begun for the starter: it is finished before this process ends. */
const pending = new Set<Promise<void>>()

function track(work: Promise<void>): void {
  pending.add(work)
  void work.then(() => pending.delete(work))
}

/** Sends a message, if anybody listens; an error means that nobody does any more. */
function send(message: ProcessMessage): void {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  track(promise)
  if (process.connected && process.send !== undefined) process.send(message, undefined, undefined, () => resolve(undefined))
  else resolve(undefined)
}

/** Ends the process when everything that was begun has been answered and said. */
async function end(code: number): Promise<never> {
  while (pending.size > 0) await Promise.all(pending)
  process.exit(code)
}

/** What each call does. */
function makeCalls(serving: Serving): {
  [N in CallName]: (request: Calls[N]['request']) => Calls[N]['reply'] | Promise<Calls[N]['reply']>
} {
  return {
    status: () => serving.status(),
    state: () => serving.state(),
    checkpoint: () => serving.checkpoint(),
    'snapshot-acquire': () => serving.acquireSnapshot(),
    'snapshot-release': ({ snapshot }) => {
      serving.releaseSnapshot(snapshot)
      return {}
    },
    unmount: async ({ force }) => {
      isOrdered = true
      try {
        await serving.unmount(force)
      } catch (error) {
        isOrdered = false
        throw error
      }
      return {}
    },
  }
}

async function answer(calls: ReturnType<typeof makeCalls>, { id, call, request }: CallMessage): Promise<void> {
  try {
    const run = calls[call] as (request: Calls[CallName]['request']) => Promise<Calls[CallName]['reply']>
    send({ type: 'reply', id, reply: await run(request) })
  } catch (error) {
    send({ type: 'error', id, error: toPlainError(error) })
  }
}

/** Unmounts by force, for a reason that leaves no choice. */
function stop(serving: Serving, reason: string): void {
  if (isStopping) return
  isStopping = true
  logger.info({ reason }, 'stopping')
  serving.unmount(true).catch((error: unknown) => {
    logger.fatal({ err: error }, 'could not unmount')
    process.exit(1)
  })
}

/** Has each reason to stop end the mount, also one that comes before there is a mount to end. */
function stopWhenAsked(): (serving: Serving) => void {
  let serving: Serving | undefined
  let asked: string | undefined
  for (const reason of ['SIGTERM', 'SIGINT', 'SIGHUP', 'disconnect']) {
    process.on(reason, () => {
      if (reason === 'disconnect' && isOnItsOwn) return
      asked = reason
      if (serving !== undefined) stop(serving, reason)
    })
  }
  return (started) => {
    serving = started
    if (asked !== undefined) stop(started, asked)
  }
}

/** Snapshots are still read: closing the volume, as `abandon` would, changes their bytes; the end of this process does not. */
const isHeld = (error: unknown): boolean => error instanceof ErrnoError && error.code === 'EBUSY'

async function main(): Promise<void> {
  const startStopping = stopWhenAsked()
  const started = await Serving.start(options, logger, (walBytes) => {
    send({ type: 'wal-limit', walBytes })
  })
  const { serving, negotiated, dirtyLimit } = started
  const { kernel, flags, maxWrite } = negotiated
  const calls = makeCalls(serving)
  process.on('message', (message: CallMessage) => {
    track(answer(calls, message))
  })
  logger.info({ mountpoint: options.mountpoint, kernel, dirtyLimit }, 'mounted')
  isOnItsOwn = options.isDetached
  send({ type: 'ready', protocol, kernel, flags, maxWrite, dirtyLimit })
  startStopping(serving)
  try {
    await serving.ended
    if (!isOrdered) send({ type: 'unmounted' })
    await serving.finish(() => process.connected)
  } catch (error) {
    if (!isHeld(error)) await serving.abandon()
    throw error
  }
  logger.info('unmounted')
}

let exitCode = 0
try {
  await main()
} catch (error) {
  logger.fatal({ err: error }, `cannot serve: ${messageOf(error)}`)
  send({ type: 'failed', error: toPlainError(error) })
  exitCode = 1
}
await end(exitCode)
