/** docs/api/errors.md, base's table and api's words are one list; nothing in the code says a word outside it. */
import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { join } from 'node:path'
import { test } from 'node:test'
import { problemWords } from '../../src/api/problem-words.ts'
import { errorTable } from '../../src/base/index.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const document = readFileSync(join(root, 'docs/api/errors.md'), 'utf8')

test('docs/api/errors.md lists every code with its status and meaning, and no other', () => {
  const words = Object.entries(problemWords).map(([word, { status, meaning }]) => `| \`${word}\` | ${String(status)} | ${meaning} |`)
  const errnos = Object.entries(errorTable).map(([name, { problem, status, meaning }]) => `| \`${problem}\` | ${name} | ${String(status)} | ${meaning} |`) // prettier-ignore
  assert.deepEqual(document.split('\n').filter((line) => line.startsWith('| `')), [...words, ...errnos]) // prettier-ignore
})

test('every code that the code throws is in the list', () => {
  const known = new Set([...Object.keys(problemWords), ...Object.values(errorTable).map(({ problem }) => problem)])
  const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
  const thrown = files.flatMap((file) =>
    [...readFileSync(join(root, 'src', file), 'utf8').matchAll(/problem: '(\w+)'/g)].map(([, word = '']) => word),
  )
  assert.ok(thrown.includes('not_mounted'))
  assert.deepEqual(thrown.filter((word) => !known.has(word)), []) // prettier-ignore
})
