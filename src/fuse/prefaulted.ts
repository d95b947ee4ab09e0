/**
 * Memory for requests and replies.
 * Keeps: all of it is there before it is used, and other threads may be shown it.
 * Leaves: what lies in it to request.ts and replies.ts. Nothing of ours is imported, for the reading thread loads it too.
 */

/** A buffer and the view over the same bytes. */
export interface Bytes {
  readonly buffer: Buffer
  readonly view: DataView
  readonly memory: SharedArrayBuffer
}

/** Allocates `size` bytes whose pages are all there: a page fault inside the kernel's copy, hit by SIGKILL, cost requests
 *  (design.md, section 5: 38 EIO in 150 kills with fresh buffers, none with prefaulted ones). Other threads may be shown them. */
export function prefaulted(size: number): Bytes {
  const memory = new SharedArrayBuffer(size)
  return { buffer: Buffer.from(memory).fill(1), view: new DataView(memory), memory }
}
