/** The keeper: whatever signal comes between two of its commands, one process serves, and one stands by; and what keeps it so without it. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createVolumeFile } from '../../src/engine/index.ts'
import { assertClean, seededNumbers, until, withFolder } from '../support.ts'
import { childrenOf, processesBelow } from '../system/belongings.ts'
import { mountFile, shell, withMount, type TestMount } from './support.ts'

/** The programs that the keeper runs to have a process stand by: rm, mkfifo, rm. */
const calls = [1, 2, 3]

/** The FUSE processes of a mount, by their titles. */
type Titles = () => string[]

/** Runs `work` with a mount whose keeper has run `script` when the call of that number of a program of its own returns, or each. */
function withInterruption(call: number | 'each', script: string, work: (mount: TestMount, titles: Titles) => Promise<void>): Promise<void> {
  return withFolder(async (folder) => {
    const file = join(folder, 'volume.sqlite')
    createVolumeFile(file)
    mkdirSync(join(folder, 'mount'))
    const [path, done] = [process.env['PATH'] ?? '', join(folder, 'done')]
    process.env['PATH'] = `${interruptingPrograms(folder, call, `${script}; touch "${done}"`)}:${path}`
    const starting = mountFile(file, join(folder, 'mount'), { mode: 'standby' })
    process.env['PATH'] = path
    const mount = await starting
    try {
      await until('the program was called', () => existsSync(done))
      await work(mount, () => titlesBelow(folder))
    } finally {
      if (mount.isAlive) await mount.stop()
      await shell('umount -l -c "$1" 2>/dev/null || true', mount.mountpoint)
    }
    assertClean(file)
  })
}

const titlesBelow = (folder: string): string[] => [...processesBelow(folder).values()].filter((command) => command.startsWith('litevol: '))

/** Makes a folder with the programs of the keeper that run `script` as well, once or each time; returns its path. */
function interruptingPrograms(folder: string, call: number | 'each', script: string): string {
  const programs = join(folder, 'programs')
  const count = join(folder, 'count')
  mkdirSync(programs)
  for (const name of ['rm', 'mkfifo']) {
    const lines = [
      '#!/bin/sh',
      `/bin/${name} "$@"`,
      'code=$?',
      `echo >>"${count}"`,
      call === 'each' ? script : `[ "$(wc -l <"${count}")" -ne ${String(call)} ] || { ${script}; }`,
      'exit $code',
    ]
    writeFileSync(join(programs, name), `${lines.join('\n')}\n`)
    chmodSync(join(programs, name), 0o755)
  }
  return programs
}

const restartsOf = (mount: TestMount): number => mount.events.findLast((event) => event.type === 'ready')?.restarts ?? 0

/** Whether a keeper waits, with all signals seen to: none is pending, and it runs no program beside its two processes. */
function isAtRest(keeper: number): boolean {
  const status = readFileSync(`/proc/${String(keeper)}/status`, 'utf8')
  return /^State:\tS/m.test(status) && /^SigPnd:\t0+$/m.test(status) && /^ShdPnd:\t0+$/m.test(status) && childrenOf(keeper).length === 2
}

/** Another process has taken over; one serves and one stands by, now and after an order to replace it. */
async function assertInOrder(mount: TestMount, titles: Titles): Promise<void> {
  const isInOrder = (): boolean => {
    const found = titles()
    const isBoth = found.length === 2 && ['serving', 'standing by'].every((what) => found.some((title) => title.startsWith(`litevol: ${what}`))) // prettier-ignore
    return isBoth && isAtRest(mount.keeper.pid)
  }
  await until('another process has taken over', () => restartsOf(mount) > 0)
  await until('one serves and one stands by', isInOrder)
  const before = restartsOf(mount)
  mount.keeper.replace()
  await until('it is replaced', () => restartsOf(mount) > before)
  await until('one serves and one stands by again', isInOrder)
  assert.equal(restartsOf(mount), before + 1)
  assert.equal(await shell('echo kept > "$1/a"; cat "$1/a"', mount.mountpoint), 'kept\n')
}

for (const call of calls) {
  test(`an order to replace the server comes at call ${String(call)} for a standby: one serves, one stands by`, () =>
    withInterruption(call, 'kill -HUP $PPID', assertInOrder))

  test(`the server dies at call ${String(call)} for a standby: one serves, one stands by`, () =>
    withInterruption(call, 'for one in $(cat /proc/$PPID/task/$PPID/children); do [ $one = $$ ] || kill -KILL $one; done', assertInOrder))

  test(`an end is asked for at call ${String(call)} for a standby: no process is left`, () =>
    withInterruption(call, 'kill -TERM $PPID', async (mount, titles) => {
      assert.equal(await mount.ended(), 0)
      await until('all are gone', () => titles().length === 0)
    }))
}

test('a signal at each call for a standby, which is made because of another one: one serves, one stands by', () =>
  withInterruption('each', 'kill -USR2 $PPID', async (mount, titles) => {
    mount.keeper.replace()
    await assertInOrder(mount, titles)
  }))

test('signals in numbers, whenever they come: one serves, one stands by', (t) =>
  withFolder(async (folder) => {
    const seed = Math.floor(Math.random() * 2 ** 32)
    t.diagnostic(`seed ${String(seed)}`)
    const next = seededNumbers(seed)
    const file = join(folder, 'volume.sqlite')
    createVolumeFile(file)
    mkdirSync(join(folder, 'mount'))
    const mount = await mountFile(file, join(folder, 'mount'), { mode: 'standby' })
    try {
      for (let count = 0; count < 400; count++) {
        process.kill(mount.keeper.pid, next() % 2 === 0 ? 'SIGHUP' : 'SIGUSR2')
        await sleep(next() % 10)
      }
      await assertInOrder(mount, () => titlesBelow(folder))
    } finally {
      if (mount.isAlive) await mount.stop()
    }
    assertClean(file)
  }))

test('a keeper that cannot go on does not say that the mount is gone: its process serves on, and ends in order', () =>
  withInterruption(2, 'for last; do :; done; rm -f "$last"; mkdir "$last"', async (mount, titles) => {
    assert.equal(await mount.ended(), 1)
    assert.equal(await shell('echo kept > "$1/a"; cat "$1/a"', mount.mountpoint), 'kept\n')
    await shell('umount "$1"', mount.mountpoint)
    await until('it has ended', () => titles().length === 0)
  }))

test('a successor that is told to serve while another process does, does not', () =>
  withMount(
    async (mount) => {
      // sh SCRIPT MODE FOLDER FILE NODE PROGRAM OPTIONS
      const words = readFileSync(`/proc/${String(mount.keeper.pid)}/cmdline`, 'utf8').split('\0')
      const [node = '', program = '', options = ''] = words.slice(5)
      const [device, file] = [openSync('/dev/fuse', 'r+'), openSync(mount.file, 'r')]
      const keeper = 'trap : USR2; "$@"; exit $?' // which the successor tells that it is loaded
      const { status, stderr } = spawnSync('sh', ['-c', keeper, 'sh', node, program, options, '2'], {
        input: '1\n',
        encoding: 'utf8',
        timeout: 60_000,
        stdio: ['pipe', 'ignore', 'pipe', device, file],
      })
      for (const descriptor of [device, file]) closeSync(descriptor)
      assert.equal(status, 1)
      assert.match(stderr, /turn: another process has it/)
      assert.equal(await shell('echo kept > "$1/a"; cat "$1/a"', mount.mountpoint), 'kept\n')
    },
    { mode: 'cold' },
  ))
