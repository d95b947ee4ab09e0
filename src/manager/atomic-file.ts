/**
 * Changes of a folder that survive power loss: a folder is made, a file takes another name, or loses its own.
 * Keeps: when a function returns, its effect is on the disk: the folder is synced after the change.
 * Leaves: the files' content to whoever writes them.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'

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

/** Makes a folder, and those above it that are missing, for its owner only; their names survive power loss. */
export function makeFolderDurably(folder: string): void {
  const first = mkdirSync(folder, { recursive: true, mode: 0o700 }) ?? folder // one that is there may have been made a moment ago
  for (let made = folder; ; made = dirname(made)) {
    syncFolder(dirname(made))
    if (made.length <= first.length) return
  }
}

/** Makes the names in a folder durable. */
export function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
