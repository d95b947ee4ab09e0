/**
 * Files that have lost their name while they are open. libfuse 2 knows files by path only, so it renames such a file to
 * `.fuse_hidden…` and unlinks that name after the last close; here the file loses its name in truth, and the hidden name leads to it.
 * Keeps: a file replaced by rename(2) is never without the old and the new: libfuse hides the old one first, so that its removal
 *   waits for the rename that may follow at once.
 * Leaves: the removal itself and what the files hold to path-filesystem.ts.
 */
import type { Nodeid } from '../../base/index.ts'
import type { OperationName } from './addon.ts'

/** How long a removal waits for the rename that would do it, in ms: libfuse calls it some 50 µs later, from the same thread. */
const graceMs = 5

/** Operations that, on another path or by a handle, may come in between: they do not see whether the name is still there. */
const bystanders: ReadonlySet<OperationName> = new Set(['read', 'write', 'getattr', 'getxattr', 'open', 'fsync'])

interface Pending {
  readonly path: string
  readonly timer: NodeJS.Timeout
}

export class HiddenFiles {
  /** By the hidden name, which libfuse uses once: a directory above may be renamed meanwhile. */
  readonly #nodeids = new Map<string, Nodeid>()
  readonly #remove: (path: string) => void
  #pending: Pending | undefined

  /** `remove` takes the name at a path away; it must not throw. */
  constructor(remove: (path: string) => void) {
    this.#remove = remove
  }

  /** The file at `path`, known by `nodeid`, is `name` from now on. */
  hide(path: string, name: string, nodeid: Nodeid): void {
    this.#nodeids.set(name, nodeid)
    const timer = setTimeout(() => {
      this.settle()
    }, graceMs)
    this.#pending = { path, timer }
  }

  find(name: string): Nodeid | undefined {
    return this.#nodeids.get(name)
  }

  /** The file is not open any more. */
  drop(nodeid: Nodeid): void {
    for (const [name, hidden] of this.#nodeids) if (hidden === nodeid) this.#nodeids.delete(name)
  }

  /** To be called before each operation: does the removal that waits, unless it is no matter of it or about to be done by it. */
  settleBefore(operation: OperationName, path: unknown, target: unknown): void {
    if (this.#pending === undefined) return
    const isItsRename = operation === 'rename' && target === this.#pending.path
    if (isItsRename) this.#clear()
    else if (!bystanders.has(operation) || path === this.#pending.path) this.settle()
  }

  /** Does the removal that waits. */
  settle(): void {
    const path = this.#clear()
    if (path !== undefined) this.#remove(path)
  }

  /** Whether a removal waits: the volume is between two states. */
  get isSettled(): boolean {
    return this.#pending === undefined
  }

  #clear(): string | undefined {
    const pending = this.#pending
    clearTimeout(pending?.timer)
    this.#pending = undefined
    return pending?.path
  }
}
