import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { settings } from '../../src/config.ts'

const top = new URL('../../', import.meta.url)
const read = (name: string): string => readFileSync(new URL(name, top), 'utf8')

test('README lists every setting with its default and meaning, and no other', () => {
  const rows = read('README.md')
    .split('\n')
    .filter((line) => line.startsWith('| `LITEVOL_'))
  const wanted = Object.values(settings).map(
    ({ env, default: value, meaning }) => `| \`${env}\` | ${value === '' ? '–' : `\`${value}\``} | ${meaning} |`,
  )
  assert.deepEqual(rows, wanted)
})

test('README names every Debian package that the tests call', () => {
  const packages = read('scripts/debian-packages')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(/\s+/)[0] ?? '')
  const readme = read('README.md')
  for (const name of packages) assert.ok(readme.includes(`\`${name}\``), name)
})

test('files that documents link to exist', () => {
  for (const document of [
    'README.md',
    'docs/containers.md',
    'docs/design.md',
    'docs/docker-volume-plugin.md',
    'docs/format.md',
    'docs/posix.md',
    'CONTRIBUTING.md',
    'docs/dependencies.md',
    'CHANGELOG.md',
  ]) {
    const links = [...read(document).matchAll(/\]\(([^)#:]+)\)/g)].map((match) => match[1] ?? '')
    for (const link of links) assert.ok(existsSync(new URL(link, new URL(document, top))), `${document}: ${link}`)
    const cited = [...read(document).matchAll(/`((?:src|test|bench|scripts|bin)\/[\w./-]+)`/g)].map((match) => match[1] ?? '')
    for (const path of cited) assert.ok(existsSync(new URL(path, top)), `${document}: ${path}`)
  }
})
