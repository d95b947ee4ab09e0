/**
 * The processes of the POSIX tests: long-lived children (process.py) that make system calls which Node lacks, as whom we like.
 * Keeps: a string is bytes, one character a byte (latin-1), both ways; a failed call rejects with the name of its errno;
 *   `stop` leaves no process behind, whatever it waits in.
 * Leaves: the calls themselves to process.py, which has one row for each name here.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** Seconds and nanoseconds; nanoseconds are 0 to 999,999,999, also before 1970. */
export type Time = readonly [seconds: number, nanoseconds: number]

export interface Stat {
  readonly dev: number
  readonly ino: number
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  readonly rdev: number
  readonly size: number
  /** Of 512 bytes. */
  readonly blocks: number
  readonly blksize: number
  readonly atime: Time
  readonly mtime: Time
  readonly ctime: Time
}

/** statvfs(3). */
export interface StatVfs {
  readonly bsize: number
  readonly frsize: number
  readonly blocks: number
  readonly bfree: number
  readonly bavail: number
  readonly files: number
  readonly ffree: number
  readonly namemax: number
}

/** A record of getdents64(2). The cookie is a 64-bit number, so it is text. */
export interface Dirent {
  readonly name: string
  readonly ino: number
  readonly cookie: string
  readonly type: number
}

/** struct flock of fcntl(2). */
export interface Lock {
  readonly type: number
  readonly start: number
  readonly length: number
  readonly pid: number
}

type Path = string
type Fd = number

/** Every call of process.py. */
interface Calls {
  open(path: Path, flags: number, mode?: number): Fd
  close(fd: Fd): void
  read(fd: Fd, size: number): string
  write(fd: Fd, data: string): number
  pread(fd: Fd, size: number, offset: number): string
  pwrite(fd: Fd, data: string, offset: number): number
  lseek(fd: Fd, offset: number, whence: number): number
  dup(fd: Fd): Fd
  fsync(fd: Fd): void
  fdatasync(fd: Fd): void
  ftruncate(fd: Fd, size: number): void
  truncate(path: Path, size: number): void
  mkdir(path: Path, mode?: number): void
  rmdir(path: Path): void
  unlink(path: Path): void
  symlink(target: string, path: Path): void
  readlink(path: Path): string
  rename(path: Path, newPath: Path): void
  chmod(path: Path | Fd, mode: number): void
  chown(path: Path | Fd, uid: number, gid: number): void
  lchown(path: Path, uid: number, gid: number): void
  mkfifo(path: Path, mode?: number): void
  mknod(path: Path, mode: number, device?: number): void
  makedev(major: number, minor: number): number
  umask(mask: number): number
  chdir(path: Path | Fd): void
  access(path: Path, mode: number): boolean
  listdir(path: Path): string[]
  posix_fallocate(fd: Fd, offset: number, length: number): void
  getpid(): number
  geteuid(): number
  stat(path: Path | Fd): Stat
  lstat(path: Path): Stat
  statvfs(path: Path | Fd): StatVfs
  /** Writes a file anew. */
  put(path: Path, data: string): void
  /** Reads a whole file. */
  get(path: Path): string
  link(path: Path, newPath: Path, flags?: number): void
  /** linkat(2) with AT_EMPTY_PATH. */
  linkFd(fd: Fd, newPath: Path): void
  renameat2(path: Path, newPath: Path, flags: number): void
  utimensat(path: Path, atime: Time, mtime: Time, flags?: number): void
  /** The next entries of an open directory, as many as fit in `size` bytes. */
  getdents(fd: Fd, size?: number): Dirent[]
  /** lseek(2) to the cookie of an entry: the next entry is the one after it. */
  seekdir(fd: Fd, cookie: string): void
  syncfs(fd: Fd): void
  setxattr(path: Path | Fd, name: string, value: string, flags?: number): void
  lsetxattr(path: Path, name: string, value: string): void
  getxattr(path: Path | Fd, name: string): string
  lgetxattr(path: Path, name: string): string
  /** Sorted. */
  listxattr(path: Path | Fd): string[]
  llistxattr(path: Path): string[]
  removexattr(path: Path | Fd, name: string): void
  /** The length that getxattr(2) returns for a buffer of `size` bytes. */
  getxattrSized(path: Path, name: string, size: number): number
  listxattrSized(path: Path, size: number): number
  fallocate(fd: Fd, mode: number, offset: number, length: number): void
  copyFileRange(source: Fd, target: Fd, count: number, from: number, to: number): number
  ficlone(target: Fd, source: Fd): void
  preadDirect(fd: Fd, size: number, offset: number): string
  pwriteDirect(fd: Fd, data: string, offset: number): number
  /** RLIMIT_FSIZE. */
  limitFileSize(size: number): void
  nameToHandle(path: Path): string
  openByHandle(mount: Fd, handle: string, flags: number): Fd
  flock(fd: Fd, operation: number): void
  lock(fd: Fd, command: number, type: number, start: number, length: number): Lock
  /** Returns the address of the mapping. Addresses are below 2^47, so they are numbers. */
  mmap(fd: Fd, length: number, flags: number, protection: number): number
  peek(address: number, length: number): string
  poke(address: number, data: string): void
  msync(address: number, length: number): void
  munmap(address: number, length: number): void
  /** A listening socket; returns a number for accept. */
  bind(path: Path): number
  /** What the next caller sends. */
  accept(socket: number): string
  connect(path: Path, data: string): void
  /** Makes the empty files PREFIX-first … PREFIX-(last - 1), numbers in six digits. */
  make(folder: Path, prefix: string, first: number, last: number): void
  makeLinks(path: Path, folder: Path, prefix: string, first: number, last: number): void
  unmake(folder: Path, prefix: string, first: number, last: number): void
  /** Appends the lines `TEXT 0`, `TEXT 1`, …, one write(2) each. */
  appendLines(path: Path, text: string, count: number): void
  /** Returns when whatever is stamped from now on has a later time than what was stamped before. */
  waitTick(): void
  exec(program: string, ...args: string[]): { status: number; out: string; err: string }
}

/** A process: every call as a promise. A call that blocks in the kernel stays open; calls after it wait for it. */
export type Process = { readonly [K in keyof Calls]: (...args: Parameters<Calls[K]>) => Promise<ReturnType<Calls[K]>> } & {
  /** Kills it and waits for its end; returns the signal or exit code it had ended with before, if it had. */
  stop(): Promise<void>
  /** Waits until it ends by itself; returns the signal or exit code. */
  ended(): Promise<string | number | null>
}

/** Who a process is. */
export interface Who {
  readonly uid: number
  readonly gid: number
  readonly groups: readonly number[]
  readonly umask: number
}

/** A system call that failed. */
export class CallError extends Error {
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

type Answer = { readonly value: unknown } | { readonly errno: string; readonly message: string } | { readonly fault: string }

const program = fileURLToPath(new URL('process.py', import.meta.url))

/** Starts a process in `folder`. The caller stops it. */
export function startProcess(folder: string, who: Who): Process {
  const child = spawn('python3', ['-I', '-S', program, JSON.stringify(who)], { cwd: folder, stdio: ['pipe', 'pipe', 'inherit'] })
  const waiting: PromiseWithResolvers<unknown>[] = []
  createInterface(child.stdout).on('line', (line) => {
    const answer = JSON.parse(line) as Answer
    const call = waiting.shift()
    if ('value' in answer) call?.resolve(answer.value)
    else call?.reject('fault' in answer ? new Error(answer.fault) : new CallError(answer.errno, answer.message))
  })
  const end = once(child, 'close').then(() => {
    for (const call of waiting.splice(0)) call.reject(new Error(`the process ended: ${String(child.signalCode ?? child.exitCode)}`))
    return child.signalCode ?? child.exitCode
  })
  child.stdin.on('error', () => undefined) // it has ended: `close` says so to whoever waits
  const send = (call: string, args: readonly unknown[]): Promise<unknown> => {
    const answer = Promise.withResolvers<unknown>()
    waiting.push(answer)
    child.stdin.write(`${JSON.stringify({ call, args })}\n`)
    return answer.promise
  }
  const stop = async (): Promise<void> => {
    for (const call of waiting) call.promise.catch(() => undefined) // nobody waits for them any more
    child.kill('SIGKILL')
    await end
  }
  const own: Readonly<Record<string, unknown>> = { stop, ended: () => end, then: undefined }
  return new Proxy({} as Process, {
    get: (_target, name: string) => (name in own ? own[name] : (...args: unknown[]) => send(name, args)),
  })
}

/** Whether the error is that of a system call that failed with one of these errnos. */
export function hasErrno(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof CallError && codes.includes(error.code)
}

/** Has the kernel drop inodes and dentries that nobody uses. */
export const dropCaches = (process: Process): Promise<void> => process.put('/proc/sys/vm/drop_caches', '2\n')

/** Asserts that a call fails with that errno. */
export async function assertErrno(code: string, call: Promise<unknown>): Promise<void> {
  await assert.rejects(call, (error: unknown) => {
    if (!(error instanceof CallError)) throw error
    assert.equal(error.code, code, error.message)
    return true
  })
}
