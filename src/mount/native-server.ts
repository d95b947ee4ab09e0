/**
 * The driver fuse-native: libfuse's threads wait while this thread answers, between everything else that it does.
 * Keeps: one request is one uninterrupted run, as in the serving thread. Leaves: libfuse's callbacks to src/fuse/native.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { ErrnoError, type Ino, type Logger } from '../base/index.ts'
import { Volume } from '../engine/index.ts'
import { NATIVE_MAX_WRITE, NativeMount, type Negotiated } from '../fuse/index.ts'
import type { StartOptions } from './messages.ts'
import { VolumeFilesystem } from './volume-filesystem.ts'
import type { ServerParts, VolumeServer } from './volume-server.ts'

/** libfuse does not tell what it agreed on with the kernel: nothing that has to be known here. */
const negotiated: Negotiated = { kernel: 'by libfuse 2', flags: [], maxWrite: NATIVE_MAX_WRITE, hasResend: false }

export class NativeServer implements VolumeServer {
  readonly #options: StartOptions
  readonly #logger: Logger
  readonly #volume: Volume
  readonly #filesystem: VolumeFilesystem
  readonly #ended = Promise.withResolvers<undefined>()
  #mount: NativeMount | undefined
  #isMounted = false

  private constructor({ options, shared, logger }: ServerParts) {
    this.#options = options
    this.#logger = logger
    this.#volume = Volume.open(options.file)
    this.#volume.collectOrphans()
    this.#filesystem = new VolumeFilesystem(this.#volume, shared, (err, ino) => {
      logger.warn({ err, ino }, 'a removed inode keeps its space for now')
    })
    this.#ended.promise.catch(() => undefined) // looked at by whoever waits for it
  }

  /** Opens the volume. */
  static open(parts: ServerParts): Promise<NativeServer> {
    return Promise.resolve(new NativeServer(parts))
  }

  get root(): Ino {
    return this.#volume.root
  }

  get isMounted(): boolean {
    return this.#isMounted
  }

  get ended(): Promise<undefined> {
    return this.#ended.promise
  }

  async mount(): Promise<Negotiated> {
    const { source, mountpoint, readOnly } = this.#options
    this.#mount = NativeMount.start(this.#filesystem, { source, mountpoint, readOnly, logger: this.#logger })
    this.#isMounted = true
    this.#mount.ended.then(() => {
      this.#isMounted = false
      this.#ended.resolve(undefined)
    }, this.#ended.reject)
    await Promise.race([this.#mount.ready, this.ended])
    if (!this.#isMounted) throw new ErrnoError('ENOTCONN', `mount ${mountpoint}: unmounted before it was ready`)
    return negotiated
  }

  async settle(): Promise<void> {
    while (this.#mount?.isSettled === false) await turn()
  }

  close(): Promise<void> {
    this.#mount?.close()
    this.#volume.close()
    return Promise.resolve()
  }
}
