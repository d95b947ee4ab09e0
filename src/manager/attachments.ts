/**
 * Attachments: the uses of volumes that an engine has told us of, each by its id, as a set in the volume's record.
 * Keeps: the same id twice is one attachment; one that is acknowledged is on the disk, and goes before its volume is unmounted; a mount
 *   that was made for attachments ends with the last, another does not. None outlives the boot it was made in: no container does.
 * Leaves: that two calls for one volume do not run at once to volume-manager.ts, the protocol to api.
 */
import { readFileSync } from 'node:fs'
import { ErrnoError, messageOf, type Logger } from '../base/index.ts'
import type { AttachmentRecord, VolumeRecord } from './record.ts'
import type { VolumeStore } from './store.ts'
import type { Volume } from './volume.ts'

/** One use of a volume. */
export interface Attachment {
  readonly id: string
  /** RFC 3339, UTC. */
  readonly since: string
}

const bootIdFile = '/proc/sys/kernel/random/boot_id'

export class Attachments {
  readonly #store: VolumeStore
  readonly #log: Logger
  readonly #boot: string

  /** Forgets attachments of an earlier boot; they do not count either where a full disk keeps them in the store. */
  constructor(store: VolumeStore, log: Logger, boot = readBootId()) {
    this.#store = store
    this.#log = log
    this.#boot = boot
    const old = store.list().filter(({ attachments }) => attachments !== null && attachments.boot !== boot)
    if (old.length === 0) return
    try {
      store.transact({ who: 'manager', action: 'forget the attachments of an earlier boot' }, (draft) => {
        for (const { id } of old) draft.update(id, { attachments: null })
      })
    } catch (error) {
      log.error({ err: error, volumes: old.length }, 'attachments of an earlier boot stay in the store for now')
    }
  }

  /** Who has a volume attached, oldest first. */
  list(record: VolumeRecord): Attachment[] {
    const list = Object.entries(this.#current(record)?.since ?? {}).map(([id, since]) => ({ id, since }))
    return list.sort((a, b) => a.since.localeCompare(b.since))
  }

  /** Throws EBUSY with `attachments` in its context when somebody has the volume attached. */
  assertNone(record: VolumeRecord): void {
    const attachments = this.list(record)
    if (attachments.length === 0) return
    const by = attachments.map(({ id, since }) => `${id} since ${since}`).join(', ')
    throw new ErrnoError('EBUSY', `volume ${record.name} (${record.id}): is attached by ${by}`, {
      context: { attachments },
      hint: `remove the containers that use it; what a killed engine has left is forgotten by DELETE /volumes/${record.id}/mount?force=true`,
    })
  }

  /** Attaches, mounting the volume if it is not. Throws what mounting throws: nothing is attached then. */
  async attach(record: VolumeRecord, volume: Volume, id: string, who: string): Promise<void> {
    const { name } = record
    const before = this.#current(record)
    const since = { [id]: new Date().toISOString(), ...before?.since }
    const ownsMount = !volume.isMounted || (before?.ownsMount ?? false)
    this.#write(record.id, { boot: this.#boot, ownsMount, since }, { who, action: `attach volume ${name} to ${id}` })
    try {
      const hasMounted = await volume.ensureMounted()
      if (hasMounted && !ownsMount) this.ownMount(record.id)
    } catch (error) {
      this.#takeBack(record, before, id)
      throw error
    }
  }

  /** Detaches; unmounts when it was the last, unless the volume was not mounted for it. An id that is not attached is no error. */
  async detach(record: VolumeRecord, volume: Volume, id: string, who: string): Promise<void> {
    const { name, persist } = record
    const attachments = this.#current(record)
    if (attachments === null || !Object.hasOwn(attachments.since, id)) return
    const { [id]: _, ...since } = attachments.since
    const isLast = Object.keys(since).length === 0
    const isOver = isLast && (!attachments.ownsMount || persist !== null)
    this.#write(record.id, isOver ? null : { ...attachments, since }, { who, action: `detach volume ${name} from ${id}` })
    if (isLast && !isOver) await this.#endMount(record, volume, who)
  }

  /** Takes up what an earlier manager of this boot has left; call when its mount is taken over. Returns whether the volume is to be mounted. */
  async resume(record: VolumeRecord, volume: Volume): Promise<boolean> {
    if (this.#current(record) === null) return false
    if (this.list(record).length > 0) return true
    await this.#endMount(record, volume, 'manager')
    return false
  }

  /** The mount was made for the attachments, and ends with the last. */
  ownMount(id: string): void {
    const record = this.#store.find(id)
    const attachments = record === undefined ? null : this.#current(record)
    if (attachments !== null) this.#write(id, { ...attachments, ownsMount: true }, { who: 'manager', action: 'mount for attachments' })
  }

  /** The volume was mounted by a call: the mount is not the attachments' any more. */
  yieldMount(record: VolumeRecord, who: string): void {
    const { id, name } = record
    const attachments = this.#current(record)
    if (attachments === null) return
    const left = Object.keys(attachments.since).length === 0 ? null : { ...attachments, ownsMount: false }
    this.#write(id, left, { who, action: `mount volume ${name} apart from its attachments` })
  }

  /** The mount that nobody needs any more. One that cannot end now, mostly for other users, stays until it is unmounted by a call or used again. */
  async #endMount({ id, name }: VolumeRecord, volume: Volume, who: string): Promise<void> {
    try {
      if (volume.isMounted) await volume.unmount(false)
    } catch (error) {
      if (volume.isMounted) {
        this.#log.warn(
          { err: error, volume: id },
          'nobody has the volume attached any more, but it could not be unmounted: it stays mounted',
        )
        return
      }
      this.#log.error({ err: error, volume: id }, 'the volume was not unmounted in order after its last attachment')
    }
    this.#write(id, null, { who, action: `forget the attachments of volume ${name}` })
  }

  #takeBack({ id, name }: VolumeRecord, before: AttachmentRecord | null, attachment: string): void {
    try {
      this.#write(id, before, { who: 'manager', action: `undo attach volume ${name} to ${attachment}` })
    } catch (error) {
      this.#log.error({ err: error, volume: id, attachment, reason: messageOf(error) }, 'an attachment whose mount failed stays')
    }
  }

  /** Those of this boot. */
  #current({ attachments }: VolumeRecord): AttachmentRecord | null {
    return attachments?.boot === this.#boot ? attachments : null
  }

  #write(id: string, attachments: AttachmentRecord | null, action: { readonly who: string; readonly action: string }): void {
    this.#store.transact(action, (draft) => {
      draft.update(id, { attachments })
    })
  }
}

/** Where it cannot be read all boots are one. */
function readBootId(): string {
  try {
    return readFileSync(bootIdFile, 'utf8').trim()
  } catch {
    return ''
  }
}
