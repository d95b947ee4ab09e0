/** A disk under the data root that has no room left: what is refused, what goes on, and that nothing is damaged. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkVolume } from '../../src/engine/index.ts'
import { systemCode } from '../../src/base/index.ts'
import { shell } from '../mount/support.ts'
import { Service, withRoots, type Roots } from './support.ts'

const diskMib = 64

/** Runs `work` with a service whose data root is a small disk, and a mounted volume of it. */
async function withSmallDisk(work: (service: Service, id: string, mountpoint: string, folder: string) => Promise<void>): Promise<void> {
  await withRoots(async (roots, folder) => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${diskMib}m,mode=700`, 'litevol-test', roots.dataRoot])
    const service = await Service.start(roots)
    try {
      const id = await service.create('small')
      await work(service, id, await service.mount(id), folder)
      await service.stop()
      const errors = service.output.filter((line) => /"level":(50|60)/.test(line))
      for (const line of errors) assert.match(line, /"code":"ENOSPC"/, 'no other error was met')
    } finally {
      if (service.child.exitCode === null) service.child.kill('SIGKILL')
    }
  })
}

/** Takes every byte that is left of the disk. */
function fill({ dataRoot }: Roots): void {
  const descriptor = openSync(join(dataRoot, 'ballast'), 'a')
  try {
    for (let size = 1 << 20; size >= 1;) {
      try {
        writeSync(descriptor, Buffer.alloc(size, 1))
      } catch (error) {
        if (systemCode(error) !== 'ENOSPC') throw error
        size >>= 1
      }
    }
  } finally {
    closeSync(descriptor)
  }
}

/** Synced files, and their hashes outside the volume. */
const makeFiles =
  'cd "$1"; for i in $(seq 20); do head -c 200000 /dev/urandom > f$i; done; sync f*; sha256sum f* > "$2/sums"; sha256sum f1 f2 f3 f4 f5 > "$2/few"'

test('a volume that fills its disk: ENOSPC, what was synced is there, and what is removed makes room again', () =>
  withSmallDisk(async (service, id, mountpoint, folder) => {
    await shell(makeFiles, mountpoint, folder)
    const script = `cd "$1"; for i in $(seq 200); do head -c 2000000 /dev/urandom > g$i && sync g$i && sha256sum g$i >> "$2/grown" || exit 0; done`
    const complaints = await shell(`(${script}) 2>&1`, mountpoint, folder)
    assert.match(complaints, /No space left on device/)
    const verify = 'cd "$1"; sha256sum -c --quiet "$2/sums" "$2/grown"; wc -l < "$2/grown"'
    const grown = Number(await shell(verify, mountpoint, folder))
    assert.ok(grown > 4 && grown < diskMib / 2, `${grown} files of 2 MB fitted`)
    await shell('cd "$1"; mv f20 f20.moved; mv f20.moved f20; cat f* > /dev/null', mountpoint)
    assert.equal((await service.call('POST', `/volumes/${id}/checkpoint`)).status, 200)
    await shell(
      'cd "$1"; rm g*; head -c 20000000 /dev/urandom > again; sync again; rm again; sha256sum -c --quiet "$2/sums"',
      mountpoint,
      folder,
    )
  }))

/** What runs on a disk without a free byte, each after the disk was filled up again: on the volume, and on the service. */
const commands = [
  'touch new',
  'mkdir d',
  'ln -s a symlink',
  'ln f6 hard',
  'setfattr -n user.a -v b f7',
  'echo x >> f8; sync f8',
  'head -c 300000 /dev/urandom > f9; sync f9',
  'head -c 3000000 /dev/urandom > big; sync big',
  'mv f10 f10.moved',
  'mv f11 f12',
  'chmod 600 f13',
  'truncate -s 100 f14; sync f14',
  'rm f15',
  'sync f16',
]
const calls = [
  ['POST', '/checkpoint'],
  ['GET', '/stat'],
  ['POST', ''],
  ['DELETE', '/mount'],
  ['GET', '/stat'],
  ['POST', '/mount'],
] as const

test('a disk that others fill to the last byte: each operation works or is ENOSPC or 507, nothing is damaged, and with room all works', () =>
  withSmallDisk(async (service, id, mountpoint, folder) => {
    await shell(makeFiles, mountpoint, folder)
    const outcomes = new Map<string, string>()
    const readFew = (): Promise<string> => shell('cd "$1"; sha256sum -c --quiet "$2/few"', mountpoint, folder)
    for (const command of commands) {
      fill(service.roots)
      const script = `cd "$1"; (${command}) > "$2/said" 2>&1 && echo done || cat "$2/said"`
      const said = (await shell(script, mountpoint, folder)).trim()
      outcomes.set(command, said)
      assert.match(said, /^done$|No space left on device/, command)
      await readFew()
    }
    fill(service.roots)
    await exportWhole(service, id, folder)
    for (const [method, path] of calls) {
      fill(service.roots)
      const url = path === '' ? '/volumes' : `/volumes/${id}${path}`
      const { status, body } = await service.call(method, url, method === 'POST' ? (path === '' ? { name: 'other' } : {}) : undefined)
      outcomes.set(`${method} ${path}`, String(status))
      assert.ok([200, 201, 204, 507].includes(status), `${method} ${path}: ${status} ${JSON.stringify(body)}`)
    }
    assert.ok(
      [...outcomes.values()].some((outcome) => outcome !== 'done' && !outcome.startsWith('20')),
      'the disk was full',
    )
    await shell('rm "$1/ballast"', service.roots.dataRoot)
    if (outcomes.get('POST /mount') !== '200') await service.mount(id)
    await readFew()
    for (const command of ['touch again', 'head -c 3000000 /dev/urandom > again; sync again', 'mv again once-more', 'rm once-more']) {
      await shell(`cd "$1"; ${command}`, mountpoint)
    }
    await service.create('another')
    await exportWhole(service, id, folder)
  }))

async function exportWhole(service: Service, id: string, folder: string): Promise<void> {
  const file = join(folder, 'export.sqlite')
  await shell('curl -fsS "$1" -o "$2"', `${service.url}/volumes/${id}/export`, file)
  assert.deepEqual(checkVolume(file, { deep: true }), [])
}
