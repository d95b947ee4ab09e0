/**
 * The consumers of a kill test, started and stopped, and the proof that what they were told is on the mount.
 * Keeps: what a writer was told is in its manifest outside the mount, and is compared entry by entry; a consumer that ends in
 *   another way than it may fails the test with what it said, and one that does not end fails it too.
 * Leaves: what they do to writer.py and inserter.py, the killing to the modes beside.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { systemCode } from '../../../src/base/index.ts'

/** What a consumer takes for the end of the world (writer.py). */
export type Tolerance = 'strict' | 'lossy' | 'torn'

/** How long a consumer may take to end once it is told to, or its mount is gone, in ms: it hangs by then. */
const endLimitMs = 120_000

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url))

/** What a consumer says at its end. */
export interface Outcome {
  readonly operations: number
  /** Errors that it has tolerated. */
  readonly errors: number
  /** What ended it; null: it was told to. */
  readonly end: string | null
}

export class Consumer {
  readonly name: string
  readonly #child: ChildProcess
  readonly #output: Promise<string>
  readonly #complaints: Promise<string>
  readonly #end: Promise<unknown[]>

  /** It works in `folder`, which goes on being what it was when something else is there by its name. */
  constructor(name: string, folder: string, program: string, args: readonly string[]) {
    this.name = `${name} in ${folder}`
    const child = spawn(program, args, { cwd: folder, stdio: ['pipe', 'pipe', 'pipe'] })
    this.#child = child
    this.#output = text(child.stdout)
    this.#complaints = text(child.stderr)
    this.#end = once(child, 'exit')
    child.stdin.on('error', () => undefined) // it has ended: `ended` says how
  }

  /** Fails with its complaint when it has ended. */
  async assertRuns(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) return
    assert.fail(`${this.name} has ended: ${JSON.stringify(await this.ended())}`)
  }

  /** Has it end. */
  stop(): Promise<Outcome> {
    this.#child.stdin?.end()
    return this.ended()
  }

  /** Waits for its end, which must be in order. */
  async ended(): Promise<Outcome> {
    const isOver = await Promise.race([this.#end.then(() => true), sleep(endLimitMs, false, { ref: false })])
    assert.ok(isOver, `${this.name} hangs`)
    assert.equal(this.#child.exitCode ?? this.#child.signalCode, 0, `${this.name}: ${await this.#complaints}`)
    return JSON.parse(await this.#output) as Outcome
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }
}

/** A writer (writer.py) in a folder of its own. */
export class Writer extends Consumer {
  readonly #folder: string
  readonly #manifest: string
  readonly #tolerance: Tolerance

  constructor(folder: string, manifest: string, seed: number, tolerance: Tolerance) {
    super('writer', folder, 'python3', [here('writer.py'), manifest, String(seed), tolerance])
    this.#folder = folder
    this.#manifest = manifest
    this.#tolerance = tolerance
  }

  /** Compares every entry of its folder with what it was told. */
  assertAsAcknowledged(): void {
    Writer.assertAsAcknowledged(this.#folder, this.#manifest, this.#tolerance)
  }

  /** The same for a writer that was; without a manifest there was none. */
  static assertAsAcknowledged(folder: string, manifest: string, tolerance: Tolerance = 'strict'): void {
    if (!existsSync(manifest)) return
    const lines = readFileSync(manifest, 'utf8').trimEnd().split('\n')
    const told = new Map<string, State>()
    let intended: Readonly<Record<string, State>> = {}
    for (const line of lines) {
      const { intend = {}, done = {} } = JSON.parse(line) as { intend?: Record<string, State>; done?: Record<string, State> }
      intended = intend
      for (const [name, state] of Object.entries(done)) told.set(name, state)
    }
    const isAs = (name: string, state: State): boolean => holds(join(folder, name), state, tolerance)
    const present = readdirSync(folder).filter((name) => !name.startsWith('directory-'))
    for (const name of new Set([...present, ...told.keys()]))
      if (!(name in intended)) assert.ok(isAs(name, told.get(name) ?? null), `${folder}/${name}: not as acknowledged`)
    // What was begun and not acknowledged is done, or is not.
    const isUndone = Object.keys(intended).every((name) => isAs(name, told.get(name) ?? null))
    const isDone = Object.entries(intended).every(([name, state]) => isAs(name, state))
    assert.ok(isUndone || isDone, `${folder}: neither done nor undone: ${JSON.stringify(intended)}`)
  }
}

/** What a name holds (writer.py): nothing, content by size and hash, or while it is written what does not change. */
type State = null | readonly [size: number, hash: string] | { readonly outside: readonly [from: number, to: number | null, hash: string] }

function holds(path: string, state: State, tolerance: Tolerance): boolean {
  if (state === null) return !existsSync(path)
  if (!existsSync(path)) return false
  const content = read(path, tolerance)
  if (!('outside' in state)) return content.length === state[0] && hashOf(content) === state[1]
  const [from, to, hash] = state.outside
  return hashOf(Buffer.concat([content.subarray(0, from), content.subarray(to ?? content.length)])) === hash
}

/** Where a request may be lost, that a WRITE was is told once, to whoever closes or syncs the file next. */
function read(path: string, tolerance: Tolerance): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    if (tolerance !== 'lossy' || systemCode(error) !== 'EIO') throw error
    return readFileSync(path)
  }
}

function hashOf(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex')
}

/** A SQLite (inserter.py) with a database in that folder, which compares by itself. */
export function startInserter(folder: string, log: string, tolerance: 'strict' | 'torn'): Consumer {
  return new Consumer('SQLite', folder, 'python3', [here('inserter.py'), log, tolerance])
}

/** Commits in a repository, until its standard input ends; then the repository must be whole. */
const gitScript = `git init -q . && git config user.email a@example && git config user.name a && n=0
while read -t 0.01 -r; [ $? -gt 128 ]; do
  n=$((n + 1)); echo "line $n" >> "file-$((n % 7))"; git add -A && git -c gc.auto=0 commit -qm "commit $n" || exit 1
done
git fsck --full --strict >/dev/null 2>&1 || exit 2
[ "$(git rev-list --count HEAD)" -eq "$n" ] || exit 3
[ -z "$(git status --porcelain)" ] || exit 4
echo '{"operations": '$n', "errors": 0, "end": null}'`

export function startGit(folder: string): Consumer {
  return new Consumer('git', folder, 'bash', ['-c', gitScript])
}

/** Adds up what they say at their end. */
export function sum(outcomes: readonly Outcome[]): { readonly operations: number; readonly errors: number } {
  const operations = outcomes.reduce((total, outcome) => total + outcome.operations, 0)
  return { operations, errors: outcomes.reduce((total, outcome) => total + outcome.errors, 0) }
}
