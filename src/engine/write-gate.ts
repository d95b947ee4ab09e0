/**
 * A gate between two transactions of the one who writes, for who needs the write lock beside it, on another thread: SQLite has the one
 * who finds the lock taken sleep, up to 100 ms, and ask again, and a busy writer has it again by then. Waited for so, a restart of the
 * WAL took half a second, in which 100 MiB were added to it.
 * Keeps: it only makes the lock free soon; that one at a time has it is SQLite's to keep. Who waits at a gate that nobody opens goes on.
 */

/** How long a writer waits at most, in ms: longer than any checkpoint's last step, as SQLite's own waiting. */
const patienceMs = 30_000

export class WriteGate {
  /** What the other thread gets to make its own. */
  readonly memory: SharedArrayBuffer
  /** 1 while it is closed. */
  readonly #word: Int32Array

  constructor(memory = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)) {
    this.memory = memory
    this.#word = new Int32Array(memory)
  }

  /** Waits until the gate is open: the writer, before each transaction. */
  pass(): void {
    while (Atomics.load(this.#word, 0) === 1) {
      if (Atomics.wait(this.#word, 0, 1, patienceMs) === 'timed-out') return
    }
  }

  /** Runs `work` while no new transaction begins. One thread does this, one at a time. */
  closed<T>(work: () => T): T {
    Atomics.store(this.#word, 0, 1)
    try {
      return work()
    } finally {
      Atomics.store(this.#word, 0, 0)
      Atomics.notify(this.#word, 0)
    }
  }
}
