/**
 * Replacing a small file so that a crash leaves the old content or the new one, never a mixture.
 * Keeps: when a function returns, its effect survives power loss: rename(2) after fsync(2), then fsync of the folder.
 * Leaves: the content to store.ts.
 */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { ErrnoError, messageOf, systemCode } from '../base/index.ts'

/** Replaces `file` by `content`. The temporary file beside it has a fixed name: one writer at a time. Throws ENOSPC, EIO. */
export function replaceFile(file: string, content: string): void {
  const temporary = `${file}.tmp`
  try {
    const fd = openSync(temporary, 'w', 0o600)
    try {
      writeFileSync(fd, content)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameDurably(temporary, file)
  } catch (cause) {
    const code = systemCode(cause) === 'ENOSPC' ? 'ENOSPC' : 'EIO'
    throw new ErrnoError(code, `${file}: ${messageOf(cause)}`, { cause })
  }
}

/** Renames within one folder, and syncs the folder. */
export function renameDurably(from: string, to: string): void {
  renameSync(from, to)
  syncFolder(dirname(to))
}

/** Removes a file if it is there, and syncs the folder. */
export function removeDurably(file: string): void {
  rmSync(file, { force: true })
  syncFolder(dirname(file))
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
