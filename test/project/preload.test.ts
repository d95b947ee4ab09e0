/** What the first run compiles ahead is all that a FUSE process begins with: a module that is missing there makes the first mount wait for it. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createVolumeFile } from '../../src/engine/index.ts'
import { drivers, mountFile } from '../mount/support.ts'
import { withFolder } from '../support.ts'

const preload = fileURLToPath(new URL('../../src/mount/preload.ts', import.meta.url))
const skip = drivers.find(({ driver }) => driver === 'direct')?.skip

test('a first mount compiles nothing that preload.ts has not compiled before', { skip }, () =>
  withFolder(async (folder) => {
    const [cache, file, mountpoint] = ['cache', 'volume.sqlite', 'mount'].map((name) => join(folder, name)) as [string, string, string]
    mkdirSync(mountpoint)
    const compiled = (): string[] => readdirSync(cache, { recursive: true, encoding: 'utf8' }).sort()
    const before = process.env['NODE_COMPILE_CACHE']
    process.env['NODE_COMPILE_CACHE'] = cache
    try {
      execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', preload])
      const preloaded = compiled()
      assert.ok(preloaded.length > 60, preloaded.join('\n'))
      createVolumeFile(file)
      const mount = await mountFile(file, mountpoint)
      await mount.stop()
      assert.deepEqual(compiled(), preloaded)
    } finally {
      if (before === undefined) delete process.env['NODE_COMPILE_CACHE']
      else process.env['NODE_COMPILE_CACHE'] = before
    }
  }),
)
