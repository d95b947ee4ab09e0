/**
 * A mount that libfuse 2 serves through fuse-native: its threads wait while the main thread of this process answers.
 * Keeps: every request is answered, also a faulty one and one that comes after `close`; after a broken invariant (AssertionError)
 *   and its EIO nothing is served any more.
 * Leaves: unmounting to mount.ts, what is served to the Filesystem. fuse-native works on the main thread of a process only.
 */
import { AssertionError } from 'node:assert'
import { readdirSync, readlinkSync } from 'node:fs'
import { ErrnoError, errorTable, messageOf } from '../../base/index.ts'
import type { Logger } from '../../base/index.ts'
import type { Filesystem } from '../filesystem.ts'
import { loadAddon } from './addon.ts'
import type { Addon, Callback, OperationName, WaitingThread } from './addon.ts'
import { makeOperations } from './operations.ts'
import type { Operation } from './operations.ts'
import { PathFilesystem } from './path-filesystem.ts'

/** How a native mount is made. */
export interface NativeMountOptions {
  /** What findmnt shows as the source; any text without NUL. */
  readonly source: string
  /** An existing directory: absolute, without symlinks. */
  readonly mountpoint: string
  readonly readOnly: boolean
  /** More options for `-o`. libfuse 2 knows those of mount(8) that are as old as itself: `noatime`, `nodev`, not `relatime`. */
  readonly extraOptions?: readonly string[]
  readonly logger: Logger
}

/** The largest write that libfuse 2 passes on, in bytes (FUSE_MAX_PAGES_PER_REQ of the kernel before protocol 7.28). */
export const NATIVE_MAX_WRITE = 1 << 17

/** Texts longer than this are cut by fuse-native. */
const longestText = 1023

/** Slots of the table of callbacks. */
const callbackSlots = 35

/** How often it is looked whether libfuse still has the device open, in ms: fuse-native does not tell. */
const lookMs = 50

/** How long the kernel keeps a name, or that there is none, in seconds: as with the direct driver, nobody else changes them. */
const entrySeconds = 86_400

export class NativeMount {
  readonly #addon: Addon
  readonly #served: Filesystem
  readonly #fs: PathFilesystem
  readonly #options: NativeMountOptions
  readonly #operations: ReturnType<typeof makeOperations>
  /** Memory of libfuse's threads: must not move or go while the mount is there. */
  readonly #memory: Buffer[] = []
  readonly #ready = Promise.withResolvers<undefined>()
  readonly #ended = Promise.withResolvers<undefined>()
  #isClosed = false

  private constructor(addon: Addon, fs: Filesystem, options: NativeMountOptions) {
    this.#addon = addon
    this.#options = options
    this.#served = fs
    this.#fs = new PathFilesystem(fs, (error) => {
      options.logger.error({ err: error }, 'unlink of an open file: failed after it was answered')
    })
    this.#operations = makeOperations(this.#fs)
    this.#ended.promise.catch(() => undefined) // looked at by whoever waits for it
  }

  /**
   * Mounts and serves. Throws ENOSYS `driver_unavailable` without fuse-native or
   * libfuse 2, EINVAL for texts that are too long, EIO when libfuse cannot mount (it says why on standard error).
   */
  static start(fs: Filesystem, options: NativeMountOptions): NativeMount {
    const mount = new NativeMount(loadAddon(), fs, options)
    mount.#start()
    return mount
  }

  /** Resolves once the kernel's INIT is answered. */
  get ready(): Promise<undefined> {
    return this.#ready.promise
  }

  /** Resolves when the mount is gone, whoever unmounted it; rejects with an AssertionError of the Filesystem. */
  get ended(): Promise<undefined> {
    return this.#ended.promise
  }

  /** Whether the volume is between two states: an answered removal is yet to be committed. */
  get isSettled(): boolean {
    return this.#fs.isSettled
  }

  /** Nothing more reaches the Filesystem. */
  close(): void {
    if (!this.#isClosed) this.#fs.settle()
    this.#isClosed = true
  }

  #start(): void {
    const { mountpoint } = this.#options
    const options = optionsOf(this.#options)
    if (Buffer.byteLength(options) > longestText || Buffer.byteLength(mountpoint) > longestText) {
      throw new ErrnoError('EINVAL', `mount ${mountpoint}: source or mountpoint is too long for fuse-native`)
    }
    const state = this.#allocate(this.#addon.sizeof_fuse_thread_t)
    const { callbacks, implemented } = this.#makeCallbacks()
    const others = new Set(devices())
    try {
      const allocate = (size: number): Buffer => this.#allocate(size)
      this.#addon.fuse_native_mount(mountpoint, options, state, this, allocate, callbacks, implemented)
    } catch (cause) {
      const hint = 'libfuse says why on standard error; it needs root and /dev/fuse'
      throw new ErrnoError('EIO', `mount ${mountpoint}: libfuse: ${messageOf(cause)}`, { cause, hint })
    }
    this.#watch(
      state,
      devices().find((fd) => !others.has(fd)),
    )
  }

  #allocate(size: number): Buffer {
    const memory = Buffer.alloc(size)
    this.#memory.push(memory)
    return memory
  }

  #makeCallbacks(): { callbacks: Callback[]; implemented: Uint32Array } {
    const callbacks = new Array<Callback>(callbackSlots).fill(() => undefined)
    const implemented = new Uint32Array(callbackSlots)
    for (const name of Object.keys(this.#operations) as OperationName[]) {
      callbacks[this.#addon[`op_${name}`]] = this.#makeCallback(name)
      implemented[this.#addon[`op_${name}`]] = 1
    }
    return { callbacks, implemented }
  }

  #makeCallback(name: OperationName): Callback {
    const operation = this.#operations[name] as Operation
    const signal = this.#addon[`fuse_native_signal_${name}`]
    return (thread, _number, ...args) => {
      this.#served.begin(0) // libfuse does not tell the numbers of requests
      signal(thread, ...this.#answer(name, operation, args, thread))
      if (name === 'init') this.#ready.resolve(undefined)
    }
  }

  /** Serves one request. Never throws. */
  #answer(name: OperationName, operation: Operation, args: readonly unknown[], thread: WaitingThread) {
    try {
      if (this.#isClosed) throw new ErrnoError('ENOTCONN', 'volume: is closed')
      this.#fs.begin(name, args[0], args[1])
      return operation.serve(args, thread)
    } catch (error) {
      return [-this.#errnoOf(name, error), ...operation.onError(args)] as const
    }
  }

  /** As in dispatcher.ts: an ErrnoError is an answer, anything else is EIO, which is worth a line. */
  #errnoOf(operation: OperationName, error: unknown): number {
    const code = error instanceof ErrnoError ? error.code : 'EIO'
    if (code === 'EIO') this.#options.logger.error({ operation, err: error }, `${operation}: answered with EIO`)
    if (error instanceof AssertionError) {
      this.#isClosed = true
      this.#ended.reject(error)
    }
    return errorTable[code].errno
  }

  /** The mount is gone when libfuse has closed its device, which it does after every request was answered. */
  #watch(state: Buffer, device: string | undefined): void {
    const timer = setInterval(() => {
      if (device !== undefined && isDevice(device)) return
      clearInterval(timer)
      this.#addon.fuse_native_unmount(this.#options.mountpoint, state)
      this.#ended.resolve(undefined)
    }, lookMs)
  }
}

/**
 * The options as mount.fuse(8) knows them, in one argument. Not among them: `hard_remove`, with which libfuse 2 answers ENOENT
 * to whoever uses a file that was unlinked while open; `suid`, since an owner here does not tell who made a file.
 */
function optionsOf({ source, readOnly, extraOptions = [] }: NativeMountOptions): string {
  const name = source.replaceAll(/[\\,]/g, '\\$&')
  const options = [`fsname=${name}`, 'subtype=litevol', 'allow_other', 'default_permissions', 'use_ino', 'big_writes', 'dev']
  // libfuse 2 makes two inodes of a file with two names: kept attributes of the one would not see what is done by the other.
  const caching = [`entry_timeout=${entrySeconds}`, `negative_timeout=${entrySeconds}`, 'attr_timeout=0']
  return `-o${[...options, ...caching, ...extraOptions, ...(readOnly ? ['ro'] : [])].join(',')}`
}

const deviceName = '/dev/fuse'

/** The descriptors of the device that this process has: one that it has inherited too. */
function devices(): string[] {
  return readdirSync('/proc/self/fd').filter(isDevice)
}

function isDevice(fd: string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === deviceName
  } catch {
    return false
  }
}
