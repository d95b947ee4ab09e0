/**
 * The bytes of one regular file of the faulty disk: what reads show now, and what a power cut may leave of them.
 * Keeps: a page that was not synced since it changed survives as it is now, as it was at the last sync, or as it was at some
 *   write in between (the kernel had written it back); one whose sync failed stays as it was, as on ext4, XFS and btrfs, which
 *   mark such pages clean.
 * Leaves: names to tree.ts, when to cut to passthrough.ts.
 */
import { closeSync, copyFileSync, fstatSync, ftruncateSync, openSync, readSync, truncateSync, writeSync } from 'node:fs'

/** The unit in which a disk keeps or loses bytes. */
const pageBytes = 4096

/** Numbers from 0 up to, not including, 1. */
export type Random = () => number

export class StoredFile {
  readonly path: string
  readonly #descriptor: number
  readonly #random: Random
  /** What the disk has of pages that changed since the last sync. */
  readonly #onDisk = new Map<number, Buffer>()
  /** What the disk has of pages that a failed sync gave up. */
  readonly #lost = new Map<number, Buffer>()
  #size: number
  #sizeOnDisk: number
  /** The smallest size since the last sync. */
  #leastSize: number

  /** `path` is a file of the host, whose content counts as synced; it is made when it is not there. */
  constructor(path: string, random: Random) {
    this.path = path
    this.#random = random
    closeSync(openSync(path, 'a'))
    this.#descriptor = openSync(path, 'r+')
    this.#size = this.#sizeOnDisk = this.#leastSize = fstatSync(this.#descriptor).size
  }

  get size(): number {
    return this.#size
  }

  /** 512-byte units on the host. */
  get blocks(): number {
    return fstatSync(this.#descriptor).blocks
  }

  read(offset: number, into: Buffer): number {
    return readSync(this.#descriptor, into, 0, into.length, offset)
  }

  write(offset: number, data: Buffer): void {
    this.#remember(offset, offset + data.length)
    writeAll(this.#descriptor, data, offset)
    this.#size = Math.max(this.#size, offset + data.length)
  }

  resize(size: number): void {
    if (size < this.#size) this.#remember(size, this.#size)
    ftruncateSync(this.#descriptor, size)
    this.#size = size
    this.#leastSize = Math.min(this.#leastSize, size)
  }

  /** Everything is on the disk, but for what an earlier sync lost. */
  sync(): void {
    this.#onDisk.clear()
    this.#sizeOnDisk = this.#leastSize = this.#size
  }

  /** A sync that fails: what was to be written is given up, and no later sync writes it. */
  failSync(): void {
    for (const [page, bytes] of this.#onDisk) this.#lost.set(page, bytes)
    this.#onDisk.clear()
  }

  /** Writes what a power cut leaves into a new file; of the pages not synced each survives with the probability `chance`. */
  writeSurvivor(path: string, chance: number, random: Random): void {
    copyFileSync(this.path, path)
    const size = this.#survivingSize(random)
    const descriptor = openSync(path, 'r+')
    const old = [...this.#onDisk].filter(([page]) => random() >= chance || page * pageBytes >= this.#size)
    for (const [page, bytes] of [...this.#lost, ...old]) if (page * pageBytes < size) writeAll(descriptor, bytes, page * pageBytes)
    closeSync(descriptor)
    truncateSync(path, size)
  }

  close(): void {
    closeSync(this.#descriptor)
  }

  #survivingSize(random: Random): number {
    const [least, most] = [this.#leastSize, Math.max(this.#size, this.#sizeOnDisk)]
    const sizes = [this.#size, this.#sizeOnDisk, least, least + Math.floor(random() * (most - least + 1))]
    return sizes[Math.floor(random() * sizes.length)] ?? this.#size
  }

  /** Keeps what the disk has of the pages from `start` up to `end`, which are about to change. */
  #remember(start: number, end: number): void {
    for (let page = Math.floor(start / pageBytes); page * pageBytes < end; page++) {
      const lost = this.#lost.get(page)
      this.#lost.delete(page)
      if (lost !== undefined) this.#onDisk.set(page, lost)
      else if (!this.#onDisk.has(page) || this.#random() < 0.5) this.#onDisk.set(page, this.#page(page))
    }
  }

  #page(page: number): Buffer {
    const bytes = Buffer.alloc(pageBytes)
    readSync(this.#descriptor, bytes, 0, pageBytes, page * pageBytes)
    return bytes
  }
}

function writeAll(descriptor: number, data: Buffer, offset: number): void {
  for (let done = 0; done < data.length;) done += writeSync(descriptor, data, done, data.length - done, offset + done)
}
