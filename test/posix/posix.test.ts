/**
 * The POSIX table: each case first on a plain directory of the host, which tests the tests, then on a mount of each driver.
 * Keeps: what a row does otherwise is listed with its reason, and a driver's exception that is none any more fails;
 *   afterwards the volume's check is clean.
 * Leaves: the cases to the files beside this one, what they mean for users to docs/posix.md.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { DriverName } from '../../src/base/index.ts'
import { createVolumeFile } from '../../src/engine/index.ts'
import { drivers, mountFile, withMount } from '../mount/support.ts'
import { assertClean, withFolder } from '../support.ts'
import { acl } from './acl.ts'
import { directories } from './directories.ts'
import { onFuseNative, type Exceptions } from './exceptions.ts'
import { handles } from './handles.ts'
import { locks } from './locks.ts'
import { mappings } from './mappings.ts'
import { mounting, type Mounting } from './mounting.ts'
import { names } from './names.ts'
import { nodes } from './nodes.ts'
import { permissions } from './permissions.ts'
import { CallError } from './process.ts'
import { runCase, withPlace, type Cases } from './place.ts'
import { refusals } from './refusals.ts'
import { space } from './space.ts'
import { times } from './times.ts'
import { xattrs } from './xattrs.ts'

const tables = [nodes, names, directories, permissions, acl, xattrs, times, space, mappings, locks, handles, refusals]
const table: Cases = Object.assign({}, ...tables) as Cases

/** What ext4 does otherwise: the case says what litevol promises beyond POSIX, or what only a FUSE mount meets. */
const onHost: Exceptions = {
  'a value of 64 KiB is kept, a longer one is E2BIG': 'ext4 keeps the attributes of an inode in one block',
  'many attributes of one file are listed whole': 'ext4 keeps the attributes of an inode in one block',
  'a time in the year 9999 is kept': 'ext4 ends in 2446',
  'reading moves no time: atime is moved by utimens only': 'the host mounts with relatime',
  'collapse and insert are refused before they reach a FUSE server': 'ext4 has both',
  'holes of a closed file are told to the byte': 'ext4 knows holes by blocks',
  'statfs counts inodes exactly': 'others use the host’s disk meanwhile',
  'a file without a name is gone after the next mount, and its space with it': 'others use the host’s disk meanwhile',
  'a new inode never gets the number of one that was there before the mount': 'ext4 uses numbers again',
}

/** The rows on mounts, and what each driver does otherwise. */
const exceptions: Readonly<Record<DriverName, Exceptions>> = { direct: {}, 'fuse-native': onFuseNative }

/** statfs(2) of ext4. The host row is about a disk filesystem; on overlayfs or tmpfs much of it does not hold. */
const EXT4 = 0xef53
const hostType = statfsSync(tmpdir()).type
const noHost =
  hostType === EXT4 ? false : `${tmpdir()} is on a filesystem of type 0x${hostType.toString(16)}, and not on ext4 as the row asks`

const caseLimitMs = 300_000

/** POSIX_CASE names the cases to run, as a regular expression; without it all are. */
const wanted = new RegExp(process.env['POSIX_CASE'] ?? '')

/** The wanted cases of a table, each with its place in it. */
function wantedOf<T>(cases: Readonly<Record<string, T>>): [index: number, name: string, run: T][] {
  return Object.entries(cases).flatMap(([name, run], index) => (wanted.test(name) ? [[index, name, run]] : []))
}

test('there is a case to run', () => {
  assert.notDeepEqual([...wantedOf(table), ...wantedOf(mounting)], [], `POSIX_CASE: ${wanted.source}`)
})

test('no two cases have one name', () => {
  const all = [...tables, mounting].flatMap((cases) => Object.keys(cases))
  assert.equal(new Set(all).size, all.length)
})

test('every exception is one of an existing case', () => {
  const known = new Set([...Object.keys(table), ...Object.keys(mounting)])
  for (const listed of [onHost, ...Object.values(exceptions)]) {
    for (const name of Object.keys(listed)) assert.ok(known.has(name), name)
  }
})

test('on a directory of the host', { skip: noHost }, async (t) => {
  await withFolder(async (folder) => {
    await runTable(t, folder, skipping(onHost))
    await runMounting(t, withBind, skipping(onHost))
  })
})

for (const { driver, skip } of drivers) {
  const runner = failing(exceptions[driver])
  test(`on a mount of the driver ${driver}`, { skip }, async (t) => {
    await withMount(({ mountpoint }) => runTable(t, mountpoint, runner), { driver })
    await runMounting(t, (work) => withVolumeFile(driver, work), runner)
  })
}

/** How a row runs a case: as it is, or with regard to an exception. */
type Runner = (t: TestContext, name: string, run: () => Promise<void>) => Promise<void>

/** Leaves the exceptions out: what a host does depends on more than we know of it. */
function skipping(exceptions: Exceptions): Runner {
  return (t, name, run) => t.test(name, { skip: exceptions[name] ?? false, timeout: caseLimitMs }, run)
}

/** Whether a case failed by what the filesystem did, and not because something broke. */
function isOutcome(error: unknown): boolean {
  return error instanceof assert.AssertionError || error instanceof CallError
}

/** Runs the exceptions too, and asserts that they fail: one that is none any more is found. */
function failing(exceptions: Exceptions): Runner {
  return (t, name, run) => {
    const reason = exceptions[name]
    if (reason === undefined) return t.test(name, { timeout: caseLimitMs }, run)
    return t.test(`(not so here: ${reason}) ${name}`, { timeout: caseLimitMs }, () =>
      assert.rejects(run, isOutcome, 'it works: it is no exception any more'),
    )
  }
}

/** Runs every case of the table, each in its own folder under `top`. */
async function runTable(t: TestContext, top: string, runner: Runner): Promise<void> {
  for (const [index, name, run] of wantedOf(table)) {
    await runner(t, name, () => runCase(join(top, String(index)), run))
  }
}

async function runMounting(
  t: TestContext,
  provide: (work: (mounting: Mounting) => Promise<void>) => Promise<void>,
  runner: Runner,
): Promise<void> {
  for (const [, name, run] of wantedOf(mounting)) await runner(t, name, () => provide(run))
}

/** A folder of the host, bound to another. */
async function withBind(work: (mounting: Mounting) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    const [source, mountpoint] = [join(folder, 'source'), join(folder, 'mount')]
    for (const made of [source, mountpoint]) mkdirSync(made)
    const run = (program: string, ...args: string[]): void => {
      assert.equal(spawnSync(program, args, { stdio: 'inherit' }).status, 0, `${program} ${args.join(' ')}`)
    }
    await work({
      async mounted({ readOnly }, use) {
        run('mount', '--bind', '-o', `noatime,${readOnly ? 'ro' : 'rw'}`, source, mountpoint)
        try {
          await withPlace(mountpoint, use)
        } finally {
          run('umount', mountpoint)
        }
      },
    })
  })
}

/** A volume file, served anew each time. */
async function withVolumeFile(driver: DriverName, work: (mounting: Mounting) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    const [file, mountpoint] = [join(folder, 'volume.sqlite'), join(folder, 'mount')]
    createVolumeFile(file)
    mkdirSync(mountpoint)
    await work({
      async mounted({ readOnly }, use) {
        const mount = await mountFile(file, mountpoint, { readOnly, driver })
        try {
          await withPlace(mountpoint, use)
        } finally {
          await mount.stop()
        }
      },
    })
    assertClean(file)
  })
}
