/**
 * The workflow of the published image: its rights, its pins, and what of it can run without a registry and without root.
 * Leaves: scripts/smoke-image.sh to test/containers/image.test.ts.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { readManifest, readProject, root, temporaryFolder } from './project.ts'

interface Step {
  readonly uses?: string
  readonly run?: string
  readonly with?: Readonly<Record<string, unknown>>
}
interface Job {
  readonly permissions: Readonly<Record<string, string>>
  readonly if?: string
  readonly needs?: string | readonly string[]
  readonly 'timeout-minutes': number
  readonly strategy?: { readonly matrix: { readonly include: readonly { readonly arch: string; readonly runner: string }[] } }
  readonly steps: readonly Step[]
}
interface Workflow {
  readonly on: Readonly<Record<string, unknown>>
  readonly permissions: Readonly<Record<string, string>>
  readonly jobs: Readonly<Record<'check' | 'image' | 'publish', Job>>
}

const text = readProject('.github/workflows/image.yml')
const workflow = parse(text) as Workflow
const { jobs } = workflow
const version = readManifest('package.json').version
const runs = (job: Job): string => job.steps.map(({ run = '' }) => run).join('\n')

test('nothing may be written but by the job that publishes, and that one only after the tests and never for a pull request', () => {
  assert.deepEqual(workflow.permissions, {})
  assert.deepEqual(jobs.check.permissions, { contents: 'read' })
  assert.deepEqual(jobs.image.permissions, { contents: 'read' })
  assert.deepEqual(jobs.publish.permissions, { packages: 'write', 'id-token': 'write', attestations: 'write' })
  assert.match(jobs.publish.if ?? '', /^github\.event_name == 'push' && /)
  assert.deepEqual(jobs.publish.needs, ['check', 'image'])
  assert.ok(!('pull_request_target' in workflow.on))
})

test('every action is pinned to a commit with its version beside it, and no checkout leaves its credentials', () => {
  const uses = [...text.matchAll(/uses: (.*)$/gm)].map(([, use = '']) => use)
  assert.ok(uses.length >= 4)
  for (const use of uses) assert.match(use, /^actions\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/)
  const checkouts = Object.values(jobs).flatMap(({ steps }) => steps.filter((step) => step.uses?.startsWith('actions/checkout@')))
  for (const step of checkouts) assert.equal(step.with?.['persist-credentials'], false)
})

test('no expression stands in a script: what comes from outside comes by the environment', () => {
  for (const job of Object.values(jobs)) assert.doesNotMatch(runs(job), /\$\{\{/)
})

test('it is built and tested on a machine of each architecture that Node comes for, and packed with SBOM and provenance', () => {
  const architectures = jobs.image.strategy?.matrix.include.map(({ arch }) => arch)
  assert.deepEqual(architectures, ['amd64', 'arm64'])
  const script = runs(jobs.image)
  const order = ['--load', 'smoke-image.sh', '--sbom=true --provenance=mode=max'].map((part) => script.indexOf(part))
  assert.deepEqual(
    order,
    [...order].sort((a, b) => a - b),
  )
  assert.ok(!order.includes(-1))
  for (const arch of architectures ?? []) assert.ok(runs(jobs.publish).includes(arch))
})

test('every script in it is one that bash can read, and calls files and npm scripts that there are', () => {
  for (const job of Object.values(jobs)) {
    assert.ok(job['timeout-minutes'] > 0)
    for (const { run } of job.steps) {
      if (run === undefined) continue
      execFileSync('bash', ['-n'], { input: run })
      for (const [, name = ''] of run.matchAll(/npm run (\S+)/g)) assert.ok(name in (readManifest('package.json').scripts ?? {}), name)
      for (const [path] of run.matchAll(/scripts\/[\w.-]+/g)) assert.ok(existsSync(join(root, path)), path)
    }
  }
})

/** What is pushed to GitHub, and the tags of the image. */
const references = [
  [`refs/tags/v${version}`, `tags=${version} ${version.replace(/\.\d+$/, '')} latest\n`],
  ['refs/heads/main', 'tags=edge\n'],
  ['refs/pull/7/merge', 'tags=\n'],
] as const

for (const [reference, tags] of references) {
  test(`the tags of an image of ${reference}`, (t) => {
    const step = jobs.check.steps.find(({ run }) => run?.includes('image-tags.sh'))?.run ?? ''
    const output = join(temporaryFolder(t), 'output')
    execFileSync('bash', ['-e', '-c', step], { cwd: root, env: { ...process.env, GITHUB_REF: reference, GITHUB_OUTPUT: output } })
    assert.equal(readFileSync(output, 'utf8'), tags)
  })
}

test('a tag that is not the version of package.json is refused by name', () => {
  const env = { ...process.env, GITHUB_REF: 'refs/tags/v99.0.0' }
  const { status, stdout, stderr } = spawnSync('sh', ['scripts/image-tags.sh'], { cwd: root, env, encoding: 'utf8' })
  assert.deepEqual([status, stdout], [1, ''])
  assert.match(stderr, /v99\.0\.0 is not v/)
})
