/**
 * Whether a sync of the volume has failed, as both threads of a FUSE process and its successors know it.
 * Keeps: once set it stays until the mount is over; asking costs a load from memory.
 */
import type { LostSync } from '../engine/index.ts'
import type { RunFolder } from './run-folder.ts'

export class SharedLostSync implements LostSync {
  /** What the other thread gets to make its own. */
  readonly memory: SharedArrayBuffer
  readonly #flag: Int32Array
  readonly #folder: RunFolder

  /** Without `memory` it begins with what the predecessors have left in `folder`. */
  constructor(folder: RunFolder, memory?: SharedArrayBuffer) {
    this.memory = memory ?? new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)
    this.#flag = new Int32Array(this.memory)
    this.#folder = folder
    if (memory === undefined) this.inherit()
  }

  /** Takes over what the predecessors have left until now. */
  inherit(): void {
    if (this.#folder.hasLostSync) Atomics.store(this.#flag, 0, 1)
  }

  get isSet(): boolean {
    return Atomics.load(this.#flag, 0) === 1
  }

  set(): void {
    Atomics.store(this.#flag, 0, 1)
    this.#folder.noteLostSync()
  }
}
