/**
 * What the tests of the project's own files share: where it lies, reading its files, a folder that goes away.
 * Keeps: no test here changes the work tree. Leaves: what the files must say to the tests.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

/** The top folder of the repository. */
export const root = join(import.meta.dirname, '..', '..')

/** The text of one of the project's files, named from the top. */
export function readProject(path: string): string {
  return readFileSync(join(root, path), 'utf8')
}

/** What the tests read of a package.json. */
export interface Manifest {
  readonly version: string
  readonly scripts?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

export function readManifest(path: string): Manifest {
  return JSON.parse(readProject(path)) as Manifest
}

/** A fresh folder that is removed after the test. */
export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'litevol-project-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
