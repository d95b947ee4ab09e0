/**
 * The driver fuse-native: libfuse's threads wait while this thread answers, between everything else that it does.
 * Keeps: one request is one uninterrupted run, as in the serving thread. Leaves: libfuse's callbacks to src/fuse/native.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { ErrnoError, type Ino } from '../base/index.ts'
import { Volume } from '../engine/index.ts'
import { NATIVE_MAX_WRITE, NativeMount, type Negotiated } from '../fuse/index.ts'
import { closeDevice } from './descriptors.ts'
import { RunFolder } from './run-folder.ts'
import { VolumeFilesystem } from './volume-filesystem.ts'
import type { ServerParts, VolumeServer } from './volume-server.ts'

/** libfuse does not tell what it agreed on with the kernel: nothing that has to be known here. */
const negotiated: Negotiated = { kernel: 'by libfuse 2', flags: [], maxWrite: NATIVE_MAX_WRITE, hasResend: false }

interface OpenVolume {
  readonly parts: ServerParts
  readonly volume: Volume
  readonly filesystem: VolumeFilesystem
}

export class NativeServer implements VolumeServer {
  readonly #ended = Promise.withResolvers<undefined>()
  #opened: OpenVolume | undefined
  #mount: NativeMount | undefined
  #isMounted = false

  readonly loaded = Promise.resolve(undefined)

  constructor() {
    this.#ended.promise.catch(() => undefined) // looked at by whoever waits for it
  }

  open(parts: ServerParts): Promise<void> {
    const { options, shared, lostSync, gate, logger } = parts
    const volume = Volume.open(options.file, { lostSync, gate })
    const filesystem = new VolumeFilesystem(volume, {
      shared,
      handlesFile: new RunFolder(options.runFolder).handles,
      recallsFile: new RunFolder(options.runFolder).recalls,
      isSuccessor: false,
      onFault: (err, ino) => {
        logger.warn({ err, ino }, 'a removed inode keeps its space for now')
      },
    })
    this.#opened = { parts, volume, filesystem }
    return Promise.resolve()
  }

  get root(): Ino {
    return this.#open().volume.root
  }

  get isMounted(): boolean {
    return this.#isMounted
  }

  /** The kernel cannot be asked, since the device is libfuse's: told late by up to one look of native-mount.ts. */
  get hasMount(): boolean {
    return this.#isMounted
  }

  get ended(): Promise<undefined> {
    return this.#ended.promise
  }

  async mount(): Promise<Negotiated> {
    const { parts, filesystem } = this.#open()
    const { source, mountpoint, readOnly, mountOptions } = parts.options
    closeDevice()
    this.#mount = NativeMount.start(filesystem, { source, mountpoint, readOnly, extraOptions: mountOptions, logger: parts.logger })
    this.#isMounted = true
    this.#mount.ended.then(() => {
      this.#isMounted = false
      this.#ended.resolve(undefined)
    }, this.#ended.reject)
    await Promise.race([this.#mount.ready, this.ended])
    if (!this.#isMounted) throw new ErrnoError('ENOTCONN', `mount ${mountpoint}: unmounted before it was ready`)
    return negotiated
  }

  takeOver(): never {
    throw new ErrnoError('EOPNOTSUPP', 'driver fuse-native: libfuse cannot go on with the connection of another process')
  }

  async settle(): Promise<void> {
    while (this.#mount?.isSettled === false) await turn()
  }

  close(): Promise<void> {
    this.#mount?.close()
    this.#opened?.filesystem.close()
    this.#opened?.volume.close()
    return Promise.resolve()
  }

  #open(): OpenVolume {
    if (this.#opened === undefined) throw new ErrnoError('EIO', 'volume: is not open')
    return this.#opened
  }
}
