/**
 * All volumes of one data root: their records, files and supervisors. What the API calls.
 * Keeps: a record, its file and its supervisor appear and vanish together; names are unique.
 * Leaves: a volume's life to volume.ts, records on the disk to the store, the machine to preflight.ts.
 */
import { existsSync, readdirSync } from 'node:fs'
import { ErrnoError, messageOf, uuidText, uuidv7, type DriverName, type Logger } from '../base/index.ts'
import type { VolumeFileOptions } from '../engine/index.ts'
import type { StateReport } from '../mount/messages.ts'
import { Attachments, type Attachment } from './attachments.ts'
import type { ExportView, ExportWish } from './exports.ts'
import { assertSound, receiveVolumeFile, type ImportSource } from './import.ts'
import type { ManagerOptions } from './options.ts'
import type { PersistentMount, VolumeRecord } from './record.ts'
import type { VolumeStore } from './store.ts'
import { TaskQueue } from './task-queue.ts'
import { Volume, type MountStatus } from './volume.ts'
import { VolumeFiles } from './volume-files.ts'

/** What a name may be: usable as a file name, a label and in a shell. */
export const namePattern = '^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}$'

/** A volume as the list shows it. */
export interface VolumeSummary extends Omit<VolumeRecord, 'attachments'> {
  readonly attachments: readonly Attachment[]
  readonly state: Volume['state']
  readonly mountpoint: string | null
  readonly hostPath: string | null
}

export interface VolumeStatus extends MountStatus {
  readonly hostPath: string | null
}

/** How to mount; `persist` undefined leaves the record as it is, `driver` undefined takes the configured one. */
export interface MountWish {
  readonly readOnly: boolean
  readonly persist: boolean | undefined
  readonly driver?: DriverName | undefined
}

export class VolumeManager {
  readonly #store: VolumeStore
  readonly #files: VolumeFiles
  readonly #options: ManagerOptions
  readonly #log: Logger
  readonly #volumes = new Map<string, Volume>()
  readonly #attachments: Attachments
  /** By volume: what changes both its mount and its record runs one after another. */
  readonly #turns = new Map<string, TaskQueue>()
  /** Those under way, by name. */
  readonly #imports = new Map<string, Promise<void>>()
  readonly #stop = new AbortController()

  /** Takes over the store, which `close` closes. Settles what a crash left of volume files. */
  constructor(store: VolumeStore, options: ManagerOptions, log: Logger) {
    this.#store = store
    this.#options = options
    this.#log = log
    this.#files = new VolumeFiles(options.dataRoot)
    const names = new Set(store.list().map((record) => record.file))
    this.#files.tidy((name) => names.has(name), log)
    this.#attachments = new Attachments(store, log)
    for (const record of store.list()) this.#supervise(record)
  }

  /** Takes over what an earlier manager has mounted, and mounts what was to persist or is attached. A volume where that fails is `failed`; the others go on. */
  async restore(): Promise<void> {
    const left = namesIn(this.#options.runRoot) // one look instead of one for each of thousands
    const records = this.#store.list().filter(({ id, persist, attachments }) => persist !== null || attachments !== null || left.has(id))
    await Promise.all(records.map((record) => this.#turn(record.id, () => this.#restore(record))))
  }

  /** Replaces the FUSE process of a volume. Throws ENOENT, ETIMEDOUT, EOPNOTSUPP. */
  restart(id: string): Promise<void> {
    return this.#volume(id).restart()
  }

  /** Replaces all FUSE processes, one after the other: never are two volumes paused at once. What fails is logged. */
  async restartAll(): Promise<void> {
    for (const volume of this.#volumes.values()) {
      if (!volume.isMounted) continue
      await volume.restart().catch((error: unknown) => {
        this.#log.error({ err: error, volume: volume.id }, 'the FUSE process was not replaced')
      })
    }
  }

  list(): VolumeSummary[] {
    return this.#store.list().map((record) => this.#summarize(record))
  }

  /** Throws ENOENT. */
  get(id: string): VolumeSummary {
    return this.#summarize(this.#record(id))
  }

  findByName(name: string): VolumeSummary | undefined {
    const record = this.#store.findByName(name)
    return record === undefined ? undefined : this.#summarize(record)
  }

  /** Makes a volume; it is on the disk when this returns. Throws EEXIST `name_taken`, EINVAL, ENOSPC. */
  create(name: string, options: VolumeFileOptions, who: string): VolumeSummary {
    this.#assertFree(name)
    const record = newRecord(name)
    const { insert, rollback } = this.#insertion(record, who)
    this.#files.create(record.file, options, insert, rollback)
    this.#supervise(record)
    return this.get(record.id)
  }

  /**
   * Makes a volume of a file that comes from outside, once it is proven sound. The name is taken from the first moment on.
   * Throws EEXIST `name_taken` before anything is read; EINVAL, `invalid_volume_file` or `newer_volume_file`; ENOSPC; EAGAIN `stopping`.
   */
  async import(name: string, source: ImportSource, who: string): Promise<VolumeSummary> {
    this.#assertFree(name)
    const record = newRecord(name)
    const { insert, rollback } = this.#insertion(record, who)
    const signal = AbortSignal.any([source.signal, this.#stop.signal])
    const fill = async (file: string): Promise<void> => {
      signal.throwIfAborted()
      await receiveVolumeFile(file, { ...source, signal })
      await assertSound(file, signal, this.#log.child({ volume: record.id, name }))
      signal.throwIfAborted()
    }
    const receipt = this.#files.receive(record.file, fill, insert, rollback)
    this.#imports.set(name, receipt)
    try {
      await receipt
    } finally {
      this.#imports.delete(name)
    }
    this.#supervise(record)
    return this.get(record.id)
  }

  /** Deletes a volume with its file, unmounting it first. `signal` aborted before: its file stays. Throws ENOENT, EBUSY unless `force`, what the signal says. */
  delete(id: string, force: boolean, who: string, signal?: AbortSignal): Promise<void> {
    return this.#turn(id, async () => {
      signal?.throwIfAborted()
      const { name, file } = this.#free(id, force)
      await this.#volume(id).remove(force, () => {
        signal?.throwIfAborted()
        this.#files.remove(file, () => {
          this.#store.transact({ who, action: `delete volume ${name}` }, (draft) => {
            draft.remove(id)
          })
        })
      })
      this.#volumes.delete(id)
      this.#turns.delete(id)
    })
  }

  /** Mounts; returns once the mountpoint serves. Throws ENOENT, EBUSY `mounted`, ETIMEDOUT `not_ready`. */
  mount(id: string, { readOnly, persist, driver }: MountWish, who: string): Promise<VolumeSummary> {
    return this.#turn(id, async () => {
      await this.#volume(id).mount(readOnly, driver)
      this.#attachments.yieldMount(this.#record(id), who)
      if (persist !== undefined) this.#setPersist(id, persist ? { readOnly, ...(driver === undefined ? {} : { driver }) } : null, who)
      return this.get(id)
    })
  }

  /** Unmounts, and forgets that it was to persist and who had it attached. Throws ENOENT `not_mounted`, EBUSY unless `force`, ETIMEDOUT. */
  unmount(id: string, force: boolean, who: string): Promise<void> {
    return this.#turn(id, async () => {
      const { attachments } = this.#free(id, force)
      const volume = this.#volume(id)
      const isLeft = attachments !== null && !volume.isMounted // of a mount that has ended otherwise
      if (volume.state === 'failed' || isLeft) this.#forgetMount(id, who) // not mounted, and not to be at the next start either
      if (isLeft) return
      await volume.unmount(force)
      this.#forgetMount(id, who)
    })
  }

  /**
   * Attaches a volume to whoever `attachment` stands for; it is mounted when this returns. Once more for the same is no change.
   * `signal` aborted before that: it is not attached, since an engine that has given up does not detach it ever. Throws ENOENT, what
   * mounting throws, and what the signal says.
   */
  attach(id: string, attachment: string, signal: AbortSignal, who: string): Promise<VolumeSummary> {
    return this.#turn(id, async () => {
      signal.throwIfAborted()
      const [record, volume] = [this.#record(id), this.#volume(id)]
      const isNew = this.#attachments.list(record).every((one) => one.id !== attachment)
      await this.#attachments.attach(record, volume, attachment, who)
      if (isNew && signal.aborted) await this.#attachments.detach(this.#record(id), volume, attachment, who)
      signal.throwIfAborted()
      return this.get(id)
    })
  }

  /** Ends an attachment; the last unmounts what was mounted for it. One that is not there is no error. Throws ENOENT. */
  detach(id: string, attachment: string, who: string): Promise<void> {
    return this.#turn(id, () => this.#attachments.detach(this.#record(id), this.#volume(id), attachment, who))
  }

  async status(id: string): Promise<VolumeStatus> {
    const status = await this.#volume(id).status()
    return { ...status, hostPath: status.mountpoint === null ? null : this.#hostPath(id) }
  }

  /** The record with what the last change was. */
  async stat(id: string): Promise<VolumeSummary & StateReport> {
    const state = await this.#volume(id).readState()
    return { ...this.get(id), ...state }
  }

  checkpoint(id: string): Promise<{ readonly framesCheckpointed: number; readonly framesRemaining: number }> {
    return this.#volume(id).checkpoint()
  }

  openExport(id: string, wish: ExportWish): Promise<ExportView> {
    return this.#volume(id).openExport(wish)
  }

  /** Ends all volumes within the stop's time limit and closes the store. Nothing may be called any more. */
  async close(): Promise<void> {
    this.#stop.abort(new ErrnoError('EAGAIN', 'manager: is stopping', { problem: 'stopping' }))
    await Promise.allSettled(this.#imports.values())
    const stops = [...this.#volumes.values()].map((volume) => volume.stop(this.#options.stopTimeoutMs))
    for (const result of await Promise.allSettled(stops)) {
      if (result.status === 'rejected') this.#log.error({ err: result.reason as unknown }, 'a volume did not stop in order')
    }
    await Promise.all([...this.#turns.values()].map((turns) => turns.run(() => Promise.resolve())))
    this.#store.close()
  }

  async #restore(record: VolumeRecord): Promise<void> {
    const { id, persist } = record
    const volume = this.#volume(id)
    try {
      const isAdopted = await volume.adopt()
      const isAttached = await this.#attachments.resume(record, volume)
      if (isAdopted || (persist === null && !isAttached)) return
      await volume.mount(persist?.readOnly ?? false, persist?.driver)
      if (isAttached) this.#attachments.ownMount(id)
    } catch (error) {
      this.#log.error({ err: error, volume: id }, 'a volume could not be mounted again')
      volume.markFailed(messageOf(error))
    }
  }

  #setPersist(id: string, persist: PersistentMount | null, who: string): void {
    const record = this.#record(id)
    if (record.persist?.readOnly === persist?.readOnly && record.persist?.driver === persist?.driver) return
    this.#store.transact({ who, action: `${persist === null ? 'forget' : 'remember'} the mount of volume ${record.name}` }, (draft) => {
      draft.update(id, { persist })
    })
  }

  /** Nothing of a mount that a call has ended is left in the record. */
  #forgetMount(id: string, who: string): void {
    this.#store.transact({ who, action: `forget the mount of volume ${this.#record(id).name}` }, (draft) => {
      draft.update(id, { persist: null, attachments: null })
    })
  }

  /** The record of a volume that may be ended. Throws ENOENT, EBUSY when it is attached unless `force`. */
  #free(id: string, force: boolean): VolumeRecord {
    const record = this.#record(id)
    if (!force) this.#attachments.assertNone(record)
    return record
  }

  #assertFree(name: string): void {
    if (!new RegExp(namePattern).test(name)) throw new ErrnoError('EINVAL', `name: must match ${namePattern}`)
    if (this.#imports.has(name) || this.#store.findByName(name) !== undefined) throw nameTaken(name)
  }

  /** Puts a new record into the store, and takes it out again. */
  #insertion(record: VolumeRecord, who: string): { readonly insert: () => void; readonly rollback: () => void } {
    const insert = (): void => {
      this.#store.transact({ who, action: `create volume ${record.name}` }, (draft) => {
        if (draft.findByName(record.name) !== undefined) throw nameTaken(record.name)
        draft.insert(record)
      })
    }
    const rollback = (): void => {
      this.#store.transact({ who, action: `undo create volume ${record.name}` }, (draft) => {
        draft.remove(record.id)
      })
    }
    return { insert, rollback }
  }

  #supervise(record: VolumeRecord): void {
    this.#volumes.set(record.id, new Volume(record.id, this.#files.path(record.file), this.#options, this.#log))
    this.#turns.set(record.id, new TaskQueue())
  }

  /** Runs what changes mount and record of a volume after all that does so. Throws ENOENT. */
  async #turn<T>(id: string, task: () => Promise<T>): Promise<T> {
    const turns = this.#turns.get(id)
    if (turns === undefined) throw noVolume(id)
    return turns.run(task)
  }

  #record(id: string): VolumeRecord {
    const record = this.#store.find(id)
    if (record === undefined) throw noVolume(id)
    return record
  }

  #volume(id: string): Volume {
    const volume = this.#volumes.get(id)
    if (volume === undefined) throw noVolume(id)
    return volume
  }

  #summarize(record: VolumeRecord): VolumeSummary {
    const { state, isMounted, mountpoint } = this.#volume(record.id)
    const paths = { mountpoint: isMounted ? mountpoint : null, hostPath: isMounted ? this.#hostPath(record.id) : null }
    return { ...record, attachments: this.#attachments.list(record), state, ...paths }
  }

  #hostPath(id: string): string {
    return `${this.#options.hostMountRoot.replace(/\/$/, '')}/${id}`
  }
}

function newRecord(name: string): VolumeRecord {
  const id = uuidText(uuidv7())
  return { id, name, file: VolumeFiles.nameOf(id), createdAt: new Date().toISOString(), encrypted: false, persist: null, attachments: null }
}

function nameTaken(name: string): ErrnoError {
  return new ErrnoError('EEXIST', `volume ${name}: the name is taken`, { problem: 'name_taken' })
}

function noVolume(id: string): ErrnoError {
  return new ErrnoError('ENOENT', `volume ${id}: there is no such volume`)
}

function namesIn(folder: string): ReadonlySet<string> {
  return new Set(existsSync(folder) ? readdirSync(folder) : [])
}
