/**
 * Tests of programs that people run: each on a new volume, mounted by a FUSE process, in scripts as one would type them.
 * Keeps: a program that is missing skips the test with its name as the reason, but never in CI, which installs them all
 *   (scripts/debian-packages); afterwards the volume's check is clean.
 */
import { accessSync, chmodSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { test } from 'node:test'
import { shell, withMount } from '../mount/support.ts'

/** What a script finds as `$1` and `$2`. */
export interface Places {
  /** The root of the volume. */
  readonly mountpoint: string
  /** A folder on the host's disk, passable for every user. */
  readonly host: string
}

/** Registers a test that needs `programs`: names looked for on the path, or absolute paths of files. */
export function application(name: string, programs: readonly string[], work: (places: Places) => Promise<void>): void {
  const missing = programs.filter((program) => !isThere(program))
  const skip = missing.length > 0 && process.env['CI'] === undefined && `missing: ${missing.join(', ')}`
  test(name, { skip }, () =>
    withMount(async ({ mountpoint }, host) => {
      chmodSync(host, 0o755) // a server that runs as another user passes through it
      await work({ mountpoint, host })
    }),
  )
}

/** Runs a script with `$1`, `$2` … set; the command that fails is named. */
export async function run(text: string, ...args: string[]): Promise<void> {
  await shell(`set -E; trap 'echo "failed: $BASH_COMMAND" >&2' ERR\n${text}`, ...args)
}

/** Registers a test that is one script; `$1` is the mountpoint, `$2` the host's folder. */
export function script(name: string, programs: readonly string[], text: string): void {
  application(name, programs, async ({ mountpoint, host }) => {
    await run(text, mountpoint, host)
  })
}

function isThere(program: string): boolean {
  const folders = program.startsWith('/') ? [''] : (process.env['PATH'] ?? '').split(delimiter)
  return folders.some((folder) => {
    try {
      accessSync(join(folder, program), constants.R_OK)
      return true
    } catch {
      return false
    }
  })
}
