/**
 * The native part of the package fuse-native 2.2.6: loaded when it is asked for, with the types of what it exports.
 * Keeps: where it cannot be loaded the error names the package and the cure.
 * Leaves: what the callbacks do to operations.ts.
 *
 * The package's own JavaScript is not used. It has no option for `use_ino`, `big_writes` or `ro`; it hands getxattr and
 * listxattr replies of more bytes than the buffer has (they reach beyond it in libfuse); it takes a timer per request, and
 * loses the time of modification (see operations.ts, utimens).
 */
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { ErrnoError, messageOf, systemCode } from '../../base/index.ts'

/** The package, and its version: another may lay its memory out differently. */
const packageName = 'fuse-native'

/** The callbacks that are served: fuse_operations of libfuse 2.9 (fuse.h), as far as fuse-native has them and they are of use. */
export type OperationName =
  | 'init'
  | 'statfs'
  | 'getattr'
  | 'fgetattr'
  | 'fsync'
  | 'fsyncdir'
  | 'readdir'
  | 'truncate'
  | 'ftruncate'
  | 'utimens'
  | 'readlink'
  | 'chown'
  | 'chmod'
  | 'mknod'
  | 'setxattr'
  | 'getxattr'
  | 'listxattr'
  | 'removexattr'
  | 'open'
  | 'read'
  | 'write'
  | 'release'
  | 'create'
  | 'unlink'
  | 'rename'
  | 'link'
  | 'symlink'
  | 'mkdir'
  | 'rmdir'

/** fuse_thread_locals_t of fuse-native.c: the request that one thread of libfuse waits with. */
export type WaitingThread = Buffer

/** Called by libfuse's threads, on the main thread: who waits, the number of the operation, its arguments. Must not throw. */
export type Callback = (thread: WaitingThread, operation: number, ...args: readonly never[]) => void

/** Answers a waiting thread: 0 or a count, or minus an errno; then what the operation hands out. */
export type Signal = (thread: WaitingThread, result: number, ...given: readonly unknown[]) => void

/** What the addon exports. */
export type Addon = {
  readonly sizeof_fuse_thread_t: number
  /** Mounts and starts libfuse's threads. `state` and what `allocate` returns belong to libfuse until the mount is gone. */
  fuse_native_mount(
    mountpoint: string,
    options: string,
    state: Buffer,
    self: object,
    allocate: (size: number) => Buffer,
    callbacks: readonly Callback[],
    implemented: Uint32Array,
  ): void
  /** Lets the event loop end; unmounts nothing. */
  fuse_native_unmount(mountpoint: string, state: Buffer): void
} & { readonly [N in OperationName as `op_${N}`]: number } & { readonly [N in OperationName as `fuse_native_signal_${N}`]: Signal }

/** Loads the addon. Throws ENOSYS `driver_unavailable` with the cure in its hint. */
export function loadAddon(): Addon {
  const require = createRequire(import.meta.url)
  const manifest = resolve(require)
  try {
    // A dependency of fuse-native: finds the binary for this platform inside the package.
    const load = createRequire(manifest)('node-gyp-build') as (folder: string) => Addon
    return load(dirname(manifest))
  } catch (cause) {
    throw unavailable(`cannot be loaded: ${messageOf(cause).split('\n')[0] ?? ''}`, cureOf(messageOf(cause)), cause)
  }
}

function resolve(require: NodeJS.Require): string {
  try {
    return require.resolve(`${packageName}/package.json`)
  } catch (cause) {
    if (systemCode(cause) !== 'MODULE_NOT_FOUND') throw cause
    throw unavailable('is not installed', `run npm install ${packageName}@2.2.6 beside litevol, or use the driver direct`, cause)
  }
}

function cureOf(fault: string): string {
  if (/libfuse\.so/.test(fault)) return 'install libfuse 2 (Debian: apt-get install libfuse2), or use the driver direct'
  if (/No native build/.test(fault)) return 'it brings a binary for x64 with glibc only: use the driver direct here'
  return 'use the driver direct, which needs no package'
}

function unavailable(fault: string, hint: string, cause: unknown): ErrnoError {
  return new ErrnoError('ENOSYS', `driver fuse-native: the package ${packageName} ${fault}`, { problem: 'driver_unavailable', hint, cause })
}
