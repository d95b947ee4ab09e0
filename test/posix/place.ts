/**
 * What a case of the POSIX table is given: an empty directory of its own and processes in it, as whom it likes.
 * Keeps: when a case is done its processes are gone, passed or failed.
 * Leaves: which directories there are (host, mounts) to posix.test.ts.
 */
import { chmodSync, mkdirSync } from 'node:fs'
import { startProcess, type Process, type Who } from './process.ts'

export interface Place {
  /** A process of root, umask 022, in the case's directory. */
  readonly root: Process
  /** Starts another process there: root's, but for what `who` says. */
  start(who?: Partial<Who>): Process
}

/** Sentences about behaviour, each with the function that proves it. */
export type Cases = Readonly<Record<string, (place: Place) => Promise<void>>>

/** Two users without anything in common. */
export const alice: Partial<Who> = { uid: 1001, gid: 1001 }
export const bob: Partial<Who> = { uid: 1002, gid: 1002 }

/** Runs a case in the new directory `folder`, which is root's, mode 0755. */
export async function runCase(folder: string, run: (place: Place) => Promise<void>): Promise<void> {
  mkdirSync(folder)
  chmodSync(folder, 0o755)
  await withPlace(folder, run)
}

/** Runs `work` with processes in `folder`; afterwards they are gone. */
export async function withPlace(folder: string, work: (place: Place) => Promise<void>): Promise<void> {
  const processes: Process[] = []
  const start = (who: Partial<Who> = {}): Process => {
    const started = startProcess(folder, { uid: 0, gid: 0, groups: [], umask: 0o022, ...who })
    processes.push(started)
    return started
  }
  try {
    await work({ root: start(), start })
  } finally {
    await Promise.all(processes.map((process) => process.stop()))
  }
}
