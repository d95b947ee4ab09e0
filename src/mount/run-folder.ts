/**
 * The folder that the processes of one mount share while it lasts, on tmpfs: what a successor must know of its predecessor.
 * Keeps: only root may look into it; the keeper removes it when the mount is over.
 * Leaves: what stands in each file to the module that writes it.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Negotiated } from '../fuse/index.ts'

/** What a process tells its successor. */
export interface Handover {
  /** How often the process of this mount was replaced. */
  readonly restarts: number
  /** What was agreed on with the kernel and set, once for the connection. */
  readonly negotiated: Negotiated
  readonly dirtyLimit: string
}

export class RunFolder {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  /** Locked by the process whose turn it is to serve (serving.ts). */
  get turn(): string {
    return join(this.#folder, 'turn')
  }

  /** The open handles (open-files.ts). */
  get handles(): string {
    return join(this.#folder, 'handles')
  }

  /** The last request of each predecessor (recalls.ts). */
  get recalls(): string {
    return join(this.#folder, 'recalls')
  }

  /** The resent request in hand (poison.ts). */
  get suspect(): string {
    return join(this.#folder, 'suspect')
  }

  /** A copy of the request in hand, where the kernel cannot send it again (request-copy.ts). */
  get request(): string {
    return join(this.#folder, 'request')
  }

  /** Whether the keeper has ended the process that stood by, and starts no other. */
  get isAlone(): boolean {
    return existsSync(join(this.#folder, 'alone'))
  }

  /** Tells the keeper with which code this process is about to end, now that the mount is gone. */
  noteEnd(code: number): void {
    this.#write('ended', `${String(code)}\n`)
  }

  /** Whether a process of this mount could not sync (Volume.sync). */
  get hasLostSync(): boolean {
    return existsSync(join(this.#folder, 'lost-sync'))
  }

  /** Tells the successors that a sync has failed. */
  noteLostSync(): void {
    writeFileSync(join(this.#folder, 'lost-sync'), '', { mode: 0o600 })
  }

  /** What the first process has agreed on. Throws ENOENT when it never got so far. */
  readHandover(): Handover {
    return JSON.parse(readFileSync(join(this.#folder, 'handover'), 'utf8')) as Handover
  }

  writeHandover(handover: Handover): void {
    this.#write('handover', JSON.stringify(handover))
  }

  /** Whole, or not at all. */
  #write(name: string, content: string): void {
    const path = join(this.#folder, name)
    writeFileSync(`${path}.new`, content, { mode: 0o600 })
    renameSync(`${path}.new`, path)
  }
}
