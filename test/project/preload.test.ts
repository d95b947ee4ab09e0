/** What the first run compiles ahead is what a FUSE process loads: a module that is missing there makes the first mount wait for it. */
import assert from 'node:assert/strict'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { readProject } from './project.ts'

/** A module and all that it imports at run time, by paths from the top of the repository. */
function modulesOf(path: string, known = new Set<string>()): Set<string> {
  if (known.has(path)) return known
  known.add(path)
  for (const [, from = ''] of readProject(path).matchAll(/^(?:import(?! type)|export(?! type)|\}).*?'(\.[^']*)'$/gm)) {
    modulesOf(join(dirname(path), from), known)
  }
  return known
}

test('preload.ts loads what a FUSE process and its serving thread load', () => {
  const preloaded = modulesOf('src/mount/preload.ts')
  for (const program of ['src/mount/main.ts', 'src/mount/serving-thread.ts']) {
    const missing = [...modulesOf(program)].filter((path) => path !== program && !preloaded.has(path))
    assert.deepEqual(missing, [], program)
  }
  assert.ok(preloaded.has('src/engine/volume.ts') && preloaded.has('src/fuse/session.ts'))
})
