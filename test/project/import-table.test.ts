/** The import table of the house, as eslint.config.js has it: what each folder may import and what it may not. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { ESLint, Linter } from 'eslint'
import { root } from './project.ts'

const eslint = new ESLint({ cwd: root })

/** The messages of the import rule for one import in one file. */
async function refusals(file: string, from: string): Promise<string[]> {
  const config = (await eslint.calculateConfigForFile(join(root, file))) as { rules: Linter.RulesRecord }
  const rule = config.rules['no-restricted-imports']
  assert.ok(rule, `${file} is under no import rule`)
  const found = new Linter().verify(`import ${JSON.stringify(from)}`, { rules: { 'no-restricted-imports': rule } })
  return found.map((message) => message.message)
}

const allowed: readonly (readonly [string, string])[] = [
  ['src/base/log.ts', 'pino'],
  ['src/engine/volume.ts', '../base/index.ts'],
  ['src/engine/volume.ts', './schema.ts'],
  ['src/engine/volume.ts', 'better-sqlite3'],
  ['src/engine/owner.ts', 'node:child_process'],
  ['src/fuse/mount.ts', 'node:child_process'],
  ['src/mount/main.ts', '../engine/index.ts'],
  ['src/mount/main.ts', '../fuse/index.ts'],
  ['src/manager/supervisor.ts', '../mount/messages.ts'],
  ['src/manager/supervisor.ts', '../fuse/mount.ts'],
  ['src/manager/supervisor.ts', 'execa'],
  ['src/api/volumes.ts', '../manager/index.ts'],
  ['src/api/volumes.ts', 'fastify'],
  ['src/cli/serve.ts', '../main.ts'],
  ['src/cli/serve.ts', '../config.ts'],
  ['src/main.ts', './api/index.ts'],
]

const refused: readonly (readonly [string, string])[] = [
  ['src/base/log.ts', '../engine/index.ts'],
  ['src/base/log.ts', 'node:fs'],
  ['src/engine/volume.ts', '../fuse/index.ts'],
  ['src/engine/volume.ts', '../base/errors.ts'],
  ['src/engine/volume.ts', 'node:http'],
  ['src/engine/volume.ts', 'node:child_process'],
  ['src/engine/owner.ts', 'node:http'],
  ['src/engine/owner.ts', '../mount/main.ts'],
  ['src/fuse/session.ts', '../engine/index.ts'],
  ['src/fuse/session.ts', 'better-sqlite3'],
  ['src/mount/main.ts', '../manager/index.ts'],
  ['src/mount/main.ts', '../engine/volume.ts'],
  ['src/mount/main.ts', 'better-sqlite3'],
  ['src/manager/supervisor.ts', '../fuse/index.ts'],
  ['src/manager/supervisor.ts', '../mount/main.ts'],
  ['src/manager/supervisor.ts', '../api/index.ts'],
  ['src/manager/supervisor.ts', 'better-sqlite3'],
  ['src/api/volumes.ts', '../engine/index.ts'],
  ['src/api/volumes.ts', '../manager/store.ts'],
  ['src/api/volumes.ts', '../main.ts'],
  ['src/cli/mount.ts', '../mount/main.ts'],
  ['src/cli/mount.ts', '../manager/index.ts'],
  ['src/cli/mount.ts', 'better-sqlite3'],
  ['src/cli/deep/mount.ts', '../../fuse/index.ts'],
  ['src/main.ts', './engine/index.ts'],
  ['src/api/volumes.ts', '../../test/support.ts'],
]

for (const [file, from] of allowed) {
  test(`${file} may import ${from}`, async () => assert.deepEqual(await refusals(file, from), []))
}
for (const [file, from] of refused) {
  test(`${file} may not import ${from}, and is told why`, async () => {
    const [message, ...more] = await refusals(file, from)
    assert.deepEqual(more, [])
    assert.match(message ?? '', /restricted .*pattern\. .{20,}/)
  })
}
