/**
 * A FUSE process: serves one volume file at one mountpoint, or stands by to go on when the process that does dies. Started by
 * keeper.sh with StartOptions and the number of its generation.
 * Keeps: it ends with 0 when its mount is gone, which it sees to itself when SIGTERM or SIGINT comes or its leash ends (by force),
 *   with 2 when that is so but the volume could not be made one file, and with 1 when it cannot serve. The first generation mounts; each later one waits for a line on standard input.
 * Leaves: the mount to serving.ts, the socket to control-socket.ts, replacing it to the keeper.
 */
import { writeSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { ErrnoError, makeLogger, messageOf, toPlainError } from '../base/index.ts'
import { ControlSocket } from './control-socket.ts'
import { leashFd } from './descriptors.ts'
import { volunteer } from './oom-score.ts'
import {
  protocol,
  type CallMessage,
  type CallName,
  type Calls,
  type EventMessage,
  type ReplyMessage,
  type StartOptions,
} from './messages.ts'
import { RunFolder, type Handover } from './run-folder.ts'
import { Serving } from './serving.ts'

const options = parseOptions(process.argv[2])
const generation = Number(process.argv[3] ?? 1)
const logger = makeLogger('litevol-fuse', options.logLevel).child({ file: options.file })
const folder = new RunFolder(options.runFolder)
const keeper = process.ppid

/** How long the keeper may take to end the process that stands by, and how often that is looked at, in ms. */
const dismissTimeoutMs = 5000
const dismissPollMs = 2

/** How long after the first a second signal follows, in ms. */
const secondSignalMs = 200

/** The supervisor has ordered the unmount: it has ended its exports before, and need not be told. */
let isOrdered = false

/** It was mounted or taken over: from now on a successor can go on. */
let isServing = false

/** The mount is gone: nobody can take over what is left to do, which is to make the volume one file. */
let isGone = false

/** The exit code for that, which ends the keeper: what is committed stays in the WAL, and the next owner tries again. */
const goneCode = 2

/** This process unmounts by itself, for a reason that leaves no choice. */
let isStopping = false

function parseOptions(argument: string | undefined): StartOptions {
  const parsed: unknown = JSON.parse(argument ?? 'null')
  const isOurs = typeof parsed === 'object' && parsed !== null && 'protocol' in parsed && parsed.protocol === protocol
  if (!isOurs) throw new ErrnoError('EPROTO', `start options: protocol ${String(protocol)} is needed: started by another version?`)
  return parsed as StartOptions
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

async function answer(calls: ReturnType<typeof makeCalls>, { id, call, request }: CallMessage): Promise<ReplyMessage> {
  try {
    const run = calls[call] as (request: Calls[CallName]['request']) => Promise<Calls[CallName]['reply']>
    return { type: 'reply', id, reply: await run(request) }
  } catch (error) {
    return { type: 'error', id, error: toPlainError(error) }
  }
}

/** Tells the starter, who may be gone, how the start went. */
function tellStarter(event: EventMessage): void {
  if (generation > 1) return
  try {
    writeSync(1, `${JSON.stringify(event)}\n`)
  } catch {
    // It does not wait for it any more.
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
  const ask = (reason: string): void => {
    asked = reason
    if (serving !== undefined) stop(serving, reason)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, ask)
  if (options.hasLeash) {
    const leash = new Socket({ fd: leashFd, readable: true, writable: false }).resume()
    leash.on('error', () => undefined).once('close', () => ask('the starter is gone'))
  }
  return (started) => {
    serving = started
    if (asked !== undefined) stop(started, asked)
  }
}

/** Waits until the predecessor is dead; returns how many were replaced. Ends this process when the keeper is gone. */
async function waitForTurn(): Promise<number> {
  process.title = `litevol: standing by for ${options.file}`
  const beOneAmongOthers = volunteer()
  const { promise, resolve } = Promise.withResolvers<number>()
  process.stdin.once('data', (line: Buffer) => {
    resolve(Number(line.toString()))
  })
  process.stdin.once('end', () => process.exit(0))
  const restarts = await promise
  beOneAmongOthers()
  process.stdin.pause()
  return restarts
}

/**
 * A signal to the keeper, which may be gone. A second one follows as long as it `isTrue`: where sh is bash, of two signals that come
 * together one may be lost.
 */
function tellKeeper(signal: 'SIGUSR1' | 'SIGUSR2' | 'SIGALRM', isTrue: () => boolean = () => true): void {
  const send = (): void => {
    try {
      if (process.ppid === keeper && isTrue()) process.kill(keeper, signal)
    } catch {
      // It has ended just now.
    }
  }
  send()
  setTimeout(send, secondSignalMs).unref()
}

/** The keeper may see the end of this process and not the code. */
function tellEnd(code: number): void {
  try {
    folder.noteEnd(code)
  } catch (error) {
    logger.warn({ err: error }, 'the keeper could not be told how the mount ended')
  }
}

/** Has the keeper end the process that stands by: while it has the volume open, SQLite leaves the WAL beside the file. */
async function dismissStandby(): Promise<void> {
  const deadline = Date.now() + dismissTimeoutMs
  tellKeeper('SIGALRM')
  while (process.ppid === keeper && !folder.isAlone) {
    if (Date.now() > deadline) {
      logger.warn('the keeper does not end the process that stands by: the volume may be left with an empty WAL')
      return
    }
    await sleep(dismissPollMs)
  }
}

/** Mounts, or takes over when it is time to. */
async function begin(serving: Serving, onWalPressure: (walBytes: number) => void): Promise<Handover> {
  if (generation === 1) return serving.start(onWalPressure)
  await serving.loaded
  await serving.standBy()
  let isStandingBy = true
  tellKeeper('SIGUSR2', () => isStandingBy)
  const restarts = await waitForTurn()
  isStandingBy = false
  return serving.takeOver(restarts, onWalPressure)
}

/** Snapshots are still read: closing the volume, as `abandon` would, changes their bytes; the end of this process does not. */
const isHeld = (error: unknown): boolean => error instanceof ErrnoError && error.code === 'EBUSY'

async function main(): Promise<void> {
  const startStopping = stopWhenAsked()
  const serving = new Serving(options, generation, logger)
  const control: { socket?: ControlSocket } = {}
  const { restarts, negotiated, dirtyLimit } = await begin(serving, (walBytes) => {
    control.socket?.broadcast({ type: 'wal-pressure', walBytes })
  })
  const { kernel, flags, maxWrite } = negotiated
  const who = { pid: process.pid, keeper, generation, restarts, driver: options.driver }
  const ready: EventMessage = { type: 'ready', protocol, ...who, kernel, flags, maxWrite, dirtyLimit }
  const calls = makeCalls(serving)
  const socket = await ControlSocket.listen(options.runFolder, ready, (call) => answer(calls, call))
  control.socket = socket
  logger.info({ mountpoint: options.mountpoint, generation, kernel, dirtyLimit }, generation === 1 ? 'mounted' : 'took over')
  tellStarter(ready)
  tellKeeper('SIGUSR1')
  isServing = true
  startStopping(serving)
  flushCompileCache() // a process that is killed would leave nothing for the next one
  try {
    await serving.ended
    isGone = true
    if (!isOrdered) socket.broadcast({ type: 'unmounted' })
    await dismissStandby()
    await serving.finish(() => socket.isWatched)
  } catch (error) {
    if (options.driver === 'fuse-native' && !isHeld(error)) await serving.abandon() // nobody can go on with it
    throw error
  } finally {
    await socket.close()
  }
  logger.info('unmounted')
}

let exitCode = 0
try {
  await main()
} catch (error) {
  logger.fatal({ err: error }, `cannot serve: ${messageOf(error)}`)
  tellStarter({ type: 'failed', error: toPlainError(error) })
  exitCode = isGone ? goneCode : 1
  // A thread of ours may wait for a request: process.exit would wait for it, and the successor for this process.
  if (isServing && !isGone && options.driver === 'direct') process.kill(process.pid, 'SIGKILL')
}
if (isGone) tellEnd(exitCode)
process.exit(exitCode)
