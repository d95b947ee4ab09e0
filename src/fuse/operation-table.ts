/**
 * The operations of the FUSE protocol up to 7.45 (Linux 6.18), one row each: what comes, what goes, who handles it.
 * Keeps: the table is complete; an operation that we do not serve says why, and answers ENOSYS (or nothing).
 * Leaves: reading the request to request.ts, the payloads to replies.ts, catching errors to dispatcher.ts.
 */
import { ErrnoError } from '../base/index.ts'
import type { Fh, Nodeid } from '../base/index.ts'
import { OPEN_KILL_SUIDGID, opcodes } from './constants.ts'
import { batchForget, copyRange, fallocate, init, maker, read, reopen, seek, setattr, setxattr, tmpfile, write } from './handlers.ts'
import { fillListing } from './listing.ts'
import {
  attributesReply,
  bytesReply,
  copiedReply,
  createReply,
  entryReply,
  filledReply,
  initReply,
  nothing,
  offsetReply,
} from './replies.ts'
import { openReply, statfsReply, writtenReply, xattrReply } from './replies.ts'
import type { Entry } from './filesystem.ts'
import type { Reply } from './replies.ts'
import type { Call } from './request.ts'
import type { Struct } from './struct.ts'
import * as wire from './wire.ts'

type OperationName = keyof typeof opcodes

/** An operation as the dispatcher uses it. */
export interface Operation {
  readonly name: OperationName
  readonly opcode: number
  readonly structSize: number
  readonly names: 0 | 1 | 2
  /** Whether the kernel waits for an answer. */
  readonly isAnswered: boolean
  /** Why it answers ENOSYS; undefined when it is served. */
  readonly reason: string | undefined
  /** The payload's only length, or undefined when it varies. */
  readonly replySize: number | undefined
  /** Handles the filled `call` whose struct stands at `structAt` of `view`: returns the length of the payload it put
   *  behind the reply header. `onResult` is given what the trace shows, when there is a trace. */
  serve(call: Call, view: DataView, structAt: number, onResult: ((text: string) => void) | undefined): number
}

type Handler<I, R> = (call: Call, input: I) => R
/** Answers a request that was committed already, without doing it again. */
type Recaller<I, R> = (call: Call, input: I, ino: number) => R
const answered = true
const silent = false

/** A row: struct of the request, number of names, answered or silent, kind of reply, handler; and where serving twice differs from once, how to answer again. */
function row<I, R>(
  name: OperationName,
  input: Struct<I>,
  names: 0 | 1 | 2,
  isAnswered: boolean,
  reply: Reply<R>,
  handler: Handler<I, R> | Unserved,
  recall?: Recaller<I, R>,
): Operation {
  const handle = typeof handler === 'function' ? handler : refuse(name, handler)
  return {
    name,
    opcode: opcodes[name],
    structSize: input.size,
    names,
    isAnswered,
    reason: typeof handler === 'function' ? undefined : handler.reason,
    replySize: reply.size,
    serve(call, view, structAt, onResult) {
      const decoded = input.decode(view, structAt)
      const result = call.committed === undefined || recall === undefined ? handle(call, decoded) : recall(call, decoded, call.committed)
      onResult?.(reply.describe(result))
      return reply.encode(call.reply, result)
    },
  }
}

interface Unserved {
  readonly reason: string
}

/** The handler of an operation that we do not serve. */
const enosys = (reason: string): Unserved => ({ reason })

function refuse(name: string, { reason }: Unserved): () => never {
  return () => {
    throw new ErrnoError('ENOSYS', `${name} is not served: ${reason}`)
  }
}

const sameEntry = (call: Call, _input: unknown, ino: number): Entry => call.fs.entry(ino)
const done = (): void => undefined

const namespaceRows: readonly Operation[] = [
  row('LOOKUP', wire.noInput, 1, answered, entryReply, (c) => c.fs.lookup(c.nodeid, c.name)),
  row('FORGET', wire.forgetIn, 0, silent, nothing, (c, i) => c.fs.forget(c.nodeid, i.nlookup)),
  row('BATCH_FORGET', wire.batchForgetIn, 0, silent, nothing, batchForget),
  row('MKNOD', wire.mknodIn, 1, answered, entryReply, (c, i) => c.fs.mknod(maker(c, i), c.nodeid, c.name, i.mode, i.rdev), sameEntry),
  row('MKDIR', wire.mkdirIn, 1, answered, entryReply, (c, i) => c.fs.mkdir(maker(c, i), c.nodeid, c.name, i.mode), sameEntry),
  row('SYMLINK', wire.noInput, 2, answered, entryReply, (c) => c.fs.symlink(c.caller, c.nodeid, c.name, c.secondName), sameEntry),
  row('LINK', wire.linkIn, 1, answered, entryReply, (c, i) => c.fs.link(i.oldnodeid as Nodeid, c.nodeid, c.name), sameEntry),
  row('UNLINK', wire.noInput, 1, answered, nothing, (c) => c.fs.unlink(c.nodeid, c.name), done),
  row('RMDIR', wire.noInput, 1, answered, nothing, (c) => c.fs.rmdir(c.nodeid, c.name), done),
  row('RENAME', wire.renameIn, 2, answered, nothing, (c, i) => c.fs.rename(c.nodeid, c.name, i.newdir as Nodeid, c.secondName, 0), done),
  row(
    'RENAME2',
    wire.rename2In,
    2,
    answered,
    nothing,
    (c, i) => c.fs.rename(c.nodeid, c.name, i.newdir as Nodeid, c.secondName, i.flags),
    done,
  ),
  row('READDIR', wire.readIn, 0, answered, filledReply, (c, i) => fillListing(c, i.offset, i.size, false)),
  row('READDIRPLUS', wire.readIn, 0, answered, filledReply, (c, i) => fillListing(c, i.offset, i.size, true)),
]

const inodeRows: readonly Operation[] = [
  row('GETATTR', wire.getattrIn, 0, answered, attributesReply, (c) => c.fs.getattr(c.nodeid)),
  row('SETATTR', wire.setattrIn, 0, answered, attributesReply, setattr),
  row('READLINK', wire.noInput, 0, answered, bytesReply, (c) => c.fs.readlink(c.nodeid)),
  row('STATFS', wire.noInput, 0, answered, statfsReply, (c) => c.fs.statfs()),
  row('SETXATTR', wire.setxattrIn, 1, answered, nothing, setxattr, done),
  row('GETXATTR', wire.getxattrIn, 1, answered, xattrReply, (c, i) => ({ value: c.fs.getxattr(c.nodeid, c.name), room: i.size })),
  row('LISTXATTR', wire.getxattrIn, 0, answered, xattrReply, (c, i) => ({ value: c.fs.listxattr(c.caller, c.nodeid), room: i.size })),
  row('REMOVEXATTR', wire.noInput, 1, answered, nothing, (c) => c.fs.removexattr(c.nodeid, c.name), done),
]

const fileRows: readonly Operation[] = [
  row('OPEN', wire.openIn, 0, answered, openReply, (c, i) => c.fs.open(c.nodeid, i.flags, (i.openFlags & OPEN_KILL_SUIDGID) !== 0)),
  row('CREATE', wire.createIn, 1, answered, createReply, (c, i) => c.fs.create(maker(c, i), c.nodeid, c.name, i.mode, i.flags), reopen),
  row('TMPFILE', wire.createIn, 1, answered, createReply, tmpfile, reopen),
  row('READ', wire.readIn, 0, answered, filledReply, read),
  row('WRITE', wire.writeIn, 0, answered, writtenReply, write),
  row('FALLOCATE', wire.fallocateIn, 0, answered, nothing, fallocate),
  row('LSEEK', wire.lseekIn, 0, answered, offsetReply, seek),
  row('COPY_FILE_RANGE', wire.copyFileRangeIn, 0, answered, writtenReply, copyRange),
  row('COPY_FILE_RANGE_64', wire.copyFileRangeIn, 0, answered, copiedReply, copyRange),
  row('RELEASE', wire.releaseIn, 0, answered, nothing, (c, i) => c.fs.release(c.nodeid, i.fh as Fh)),
  row('FSYNC', wire.fsyncIn, 0, answered, nothing, (c) => c.fs.fsync(c.nodeid)),
  row('FSYNCDIR', wire.fsyncIn, 0, answered, nothing, (c) => c.fs.fsync(c.nodeid)),
]

const sessionRows: readonly Operation[] = [
  row('INIT', wire.initIn, 0, answered, initReply, init),
  row('DESTROY', wire.noInput, 0, answered, nothing, () => undefined),
  // Every request is answered before the next is served: an interrupt finds nothing left to interrupt.
  row('INTERRUPT', wire.interruptIn, 0, silent, nothing, () => undefined),
  row('NOTIFY_REPLY', wire.notifyRetrieveIn, 0, silent, nothing, enosys('we send no NOTIFY_RETRIEVE')),
]

const unservedRows: readonly Operation[] = [
  row(
    'FLUSH',
    wire.flushIn,
    0,
    answered,
    nothing,
    enosys('close needs nothing of us; the kernel writes dirty pages at close and stops asking'),
  ),
  row(
    'OPENDIR',
    wire.openIn,
    0,
    answered,
    nothing,
    enosys('directories have no handles (NO_OPENDIR_SUPPORT), so the kernel may cache listings'),
  ),
  row('RELEASEDIR', wire.releaseIn, 0, answered, nothing, enosys('directories have no handles (NO_OPENDIR_SUPPORT)')),
  row('ACCESS', wire.accessIn, 0, answered, nothing, enosys('the kernel checks permissions (default_permissions)')),
  row('GETLK', wire.lkIn, 0, answered, nothing, enosys('locks are kept by the kernel (POSIX_LOCKS not asked for)')),
  row('SETLK', wire.lkIn, 0, answered, nothing, enosys('locks are kept by the kernel (POSIX_LOCKS not asked for)')),
  row('SETLKW', wire.lkIn, 0, answered, nothing, enosys('locks are kept by the kernel (POSIX_LOCKS not asked for)')),
  row('BMAP', wire.bmapIn, 0, answered, nothing, enosys('there is no block device beneath')),
  row('IOCTL', wire.ioctlIn, 0, answered, nothing, enosys('no ioctl is defined; the kernel turns it into ENOTTY')),
  row('POLL', wire.pollIn, 0, answered, nothing, enosys('regular files are always ready; the kernel then stops asking')),
  row('SETUPMAPPING', wire.setupmappingIn, 0, answered, nothing, enosys('DAX is for virtiofs')),
  row('REMOVEMAPPING', wire.removemappingIn, 0, answered, nothing, enosys('DAX is for virtiofs')),
  row('SYNCFS', wire.syncfsIn, 0, answered, nothing, enosys('the kernel sends it to virtiofs and fuseblk only')),
  row('STATX', wire.statxIn, 0, answered, nothing, enosys('there is no birth time to tell; the kernel falls back to GETATTR')),
]

/** All operations of the protocol. */
export const operations: readonly Operation[] = [...namespaceRows, ...inodeRows, ...fileRows, ...sessionRows, ...unservedRows]

const byOpcode: (Operation | undefined)[] = []
for (const operation of operations) byOpcode[operation.opcode] = operation

/** The operation of an opcode; undefined when the protocol we know has none. */
export function findOperation(opcode: number): Operation | undefined {
  return byOpcode[opcode]
}
