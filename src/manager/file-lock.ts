/**
 * An exclusive lock on a file that dies with its process: flock(2), taken by flock(1) through an inherited descriptor.
 * Keeps: the lock belongs to the open file description, which this process holds until `release`.
 * Leaves: what it protects to its holder.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { ErrnoError } from '../base/index.ts'

export class FileLock {
  #fd: number | undefined

  private constructor(fd: number) {
    this.#fd = fd
  }

  /** Takes the lock, making the file if need be. Throws EBUSY when another process has it. */
  static acquire(file: string): FileLock {
    const fd = openSync(file, 'a', 0o600)
    try {
      lockDescriptor(fd, file)
      return new FileLock(fd)
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  /** Gives the lock back; a second call does nothing. */
  release(): void {
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
  }
}

function lockDescriptor(fd: number, file: string): void {
  const run = spawnSync('flock', ['-xn', '3'], { stdio: ['ignore', 'ignore', 'pipe', fd], encoding: 'utf8' })
  if (run.error !== undefined) throw new ErrnoError('EIO', 'flock(1): cannot be run', { cause: run.error, hint: 'install util-linux' })
  if (run.status === 1)
    throw new ErrnoError('EBUSY', `${file}: another manager holds the lock`, { hint: 'stop it, or use another data root' })
  if (run.status !== 0) throw new ErrnoError('EIO', `${file}: cannot be locked: ${run.stderr.trim()}`)
}
