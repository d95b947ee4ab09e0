/** A disk under the data root that answers with errors: applications and clients are told, and never get wrong bytes. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { checkVolume, createVolumeFile, settleVolumeFile } from '../../src/engine/index.ts'
import { TestDisk, destroyEverythingIn } from '../faults/disk.ts'
import type { FailOrder } from '../faults/fault-gate.ts'
import { shell } from '../mount/support.ts'
import { withFolder } from '../support.ts'
import { Service } from './support.ts'

interface Place {
  readonly service: Service
  readonly disk: TestDisk
  readonly folder: string
  readonly id: string
  readonly mountpoint: string
}

/** Runs `work` with a service whose data root is a disk of ours; afterwards it stops in order and its volumes' checks are clean. */
async function withDisk(work: (place: Place) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    const mountRoot = join(folder, 'mnt')
    mkdirSync(mountRoot)
    const disk = await TestDisk.start(join(folder, 'place'), undefined, 1)
    try {
      const service = await Service.start({ dataRoot: disk.mountpoint, mountRoot }, { LITEVOL_RUN_DIR: join(folder, 'run') })
      const id = await service.create('errors')
      await work({ service, disk, folder, id, mountpoint: await service.mount(id) })
      if (!(await disk.status()).isCut) {
        await service.stop()
        await disk.cut({ folder: join(folder, 'left'), seed: 1, after: 0 })
      }
    } finally {
      destroyEverythingIn(folder)
      await disk.destroy()
    }
    await checkLeft(join(folder, 'left'))
  })
}

async function checkLeft(left: string): Promise<void> {
  const volumes = join(left, 'volumes')
  for (const name of readdirSync(volumes).filter((one) => one.endsWith('.litevol'))) {
    await settleVolumeFile(join(volumes, name), { ownerTimeoutMs: 0 })
    assert.deepEqual(checkVolume(join(volumes, name), { deep: true }), [])
  }
}

/** Runs a command in the volume; returns `done`, or what it complained of. */
async function attempt({ mountpoint, folder }: Place, command: string): Promise<string> {
  const script = '(cd "$1" && exec bash -euo pipefail -c "$3") > "$2/said" 2>&1 && echo done || cat "$2/said"'
  return (await shell(script, mountpoint, folder, command)).trim()
}

const words = { EIO: /Input\/output error/, ENOSPC: /No space left on device/ }

/** What fails, what is tried on the volume meanwhile, and which error it must get. */
const rows: readonly (readonly [title: string, order: FailOrder, command: string])[] = [
  ['a write into the WAL, at create', { operation: 'write', code: 'EIO', count: 1e6, suffix: '-wal' }, 'touch new'],
  ['a write into the WAL, at append', { operation: 'write', code: 'EIO', count: 1e6, suffix: '-wal' }, 'echo x | dd of=f1 oflag=append conv=notrunc,fsync status=none'],
  ['a write into the WAL, at rename', { operation: 'write', code: 'EIO', count: 1e6, suffix: '-wal' }, 'mv f2 f2.moved'],
  ['the third write into the WAL', { operation: 'write', code: 'EIO', count: 1e6, skip: 2, suffix: '-wal' }, 'mkdir d'],
  ['no room in the WAL, at create', { operation: 'write', code: 'ENOSPC', count: 1e6, suffix: '-wal' }, 'touch new'],
  ['no room in the WAL, at append', { operation: 'write', code: 'ENOSPC', count: 1e6, suffix: '-wal' }, 'dd if=/dev/zero bs=100000 count=1 of=f1 oflag=append conv=notrunc,fsync status=none'],
  ['no room in the WAL, at rename', { operation: 'write', code: 'ENOSPC', count: 1e6, suffix: '-wal' }, 'mv f2 f2.moved'],
] // prettier-ignore

test('errors of the disk under a volume: the application gets them, nothing else changes, and afterwards all works', () =>
  withDisk(async (place) => {
    const { mountpoint, folder, disk } = place
    await shell('cd "$1"; for i in 1 2 3 4 5; do head -c 100000 /dev/urandom > f$i; done; sync f*; sha256sum f3 f4 f5 > "$2/sums"; ls -A | sort > "$2/names"', mountpoint, folder) // prettier-ignore
    for (const [title, order, command] of rows) {
      await disk.fail(order)
      assert.match(await attempt(place, command), words[order.code], title)
      await disk.fail()
      assert.equal(await attempt(place, 'sha256sum -c --quiet "$2/sums"; ls -A | sort | diff - "$2/names"'.replaceAll('$2', folder)), 'done', title) // prettier-ignore
      assert.equal(await attempt(place, `${command}; rm -rf new d; [ ! -e f2.moved ] || mv f2.moved f2`), 'done', title)
    }
    assert.ok((await disk.status()).failures >= rows.length)
  }))

test('a read error of the disk is EIO, never wrong bytes', () =>
  withDisk(async (place) => {
    const { service, id, mountpoint, folder, disk } = place
    await shell('cd "$1"; head -c 3000000 /dev/urandom > a; sync a; sha256sum a > "$2/sums"', mountpoint, folder)
    assert.equal((await service.call('DELETE', `/volumes/${id}/mount`)).status, 204)
    await service.mount(id)
    await shell('dd if="$1" iflag=nocache count=0 status=none', join(disk.mountpoint, 'volumes', `${id}.litevol`))
    await disk.fail({ operation: 'read', code: 'EIO', count: 1e6, suffix: '.litevol' })
    assert.match(await attempt(place, 'cat a | sha256sum'), /Input\/output error/)
    const cut = await fetch(`${service.url}/volumes/${id}/export`).then((response) => response.arrayBuffer()).catch(() => undefined) // prettier-ignore
    assert.ok(cut === undefined || cut.byteLength < 3_000_000, 'an export is cut, or refused')
    await disk.fail()
    assert.equal(await attempt(place, `sha256sum -c --quiet "${folder}/sums"`), 'done')
  }))

test('an fsync that failed is never made good by a later one: what is acknowledged after it survives a power cut', () =>
  withDisk(async (place) => {
    const { service, disk, folder, id } = place
    assert.equal(await attempt(place, 'echo one > a; sync a'), 'done')
    await disk.fail({ operation: 'fsync', code: 'EIO', count: 1, suffix: '-wal' })
    assert.match(await attempt(place, 'echo two > b; sync b'), words.EIO)
    const later = await attempt(place, 'echo three > c; sync c')
    await disk.cut({ folder: join(folder, 'left'), seed: 4, after: 0 })
    service.child.kill('SIGKILL')
    const file = join(folder, 'left', 'volumes', `${id}.litevol`)
    await settleVolumeFile(file, { ownerTimeoutMs: 0 })
    const names = await shell(
      `sqlite3 "$1" "select group_concat(cast(name as text), ' ') from (select name from dentries order by name)"`,
      file,
    )
    assert.match(names, /^a/)
    assert.ok(later !== 'done' || names.includes('c'), `c was acknowledged and is lost: ${names}`)
    assert.match(later, /^done$|Input\/output error/)
  }))

test('an fsync of the disk that fails under a checkpoint: every later fsync fails, of a successor too, until the volume is mounted anew', () =>
  withDisk(async (place) => {
    const { service, disk, id } = place
    // A checkpoint that comes by itself, and before the order, leaves nothing to do: then it is tried again.
    for (let tries = 1; (await disk.status()).failures === 0; tries += 1) {
      assert.ok(tries < 20, 'no checkpoint met the error')
      await disk.fail()
      assert.equal(await attempt(place, 'echo one > a'), 'done')
      await disk.fail({ operation: 'fsync', code: 'EIO', count: 1, suffix: '-wal' })
      await service.call('POST', `/volumes/${id}/checkpoint`)
    }
    assert.match(await attempt(place, 'echo two > b; sync b'), words.EIO)
    assert.equal((await service.call('POST', `/volumes/${id}/mount/restart`)).status, 204)
    assert.match(await attempt(place, 'sync b'), words.EIO)
    assert.equal((await service.call('DELETE', `/volumes/${id}/mount`)).status, 204)
    await service.mount(id)
    assert.equal(await attempt(place, 'cat a b | tr -d "\\n" | grep -qx onetwo && echo three > c && sync c'), 'done')
  }))

/** In a process of its own, which may hang on that disk: writes to the volume, has the WAL synced beside, then for who wrote. */
const syncBeside = `
  const [engine, losing, file] = process.argv.slice(1)
  const { Maintenance, Volume } = await import(engine)
  const { ownLostSync } = await import(losing)
  const lostSync = ownLostSync()
  const [volume, maintenance] = [Volume.open(file, { lostSync }), new Maintenance(file, lostSync)]
  volume.create(volume.root, Buffer.from('new'), { mode: 0o40755, uid: 0, gid: 0 })
  const attempt = (work) => { try { work(); return 'done' } catch (error) { return error.code } }
  console.log(attempt(() => maintenance.syncWal()), attempt(() => volume.sync()), attempt(() => volume.sync()))`

test('an fsync of the disk that fails while the WAL of large writes is synced beside them: no fsync after it succeeds', () =>
  withFolder(async (folder) => {
    const source = join(folder, 'source')
    mkdirSync(source)
    createVolumeFile(join(source, 'v.sqlite'))
    const disk = await TestDisk.start(join(folder, 'place'), source, 1)
    try {
      await disk.fail({ operation: 'fsync', code: 'EIO', count: 1, skip: 1, suffix: '-wal' }) // SQLite has synced its first frames
      const modules = ['index.ts', 'lost-sync.ts'].map((name) => new URL(`../../src/engine/${name}`, import.meta.url).href)
      const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', syncBeside, ...modules, join(disk.mountpoint, 'v.sqlite')] // prettier-ignore
      const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 60_000 })
      assert.equal(stdout, 'EIO EIO EIO\n')
      assert.equal((await disk.status()).failures, 1)
    } finally {
      destroyEverythingIn(folder)
      await disk.destroy()
    }
  }))

const checkpointRows: readonly FailOrder[] = [
  { operation: 'write', code: 'EIO', count: 1, suffix: '.litevol' },
  { operation: 'write', code: 'ENOSPC', count: 1, suffix: '.litevol' },
  { operation: 'fsync', code: 'EIO', count: 1, suffix: '.litevol' },
]

test('errors of the disk at a checkpoint: 500 or 507, the next one succeeds, nothing is lost', () =>
  withDisk(async (place) => {
    const { service, disk, folder, id } = place
    for (const [n, order] of checkpointRows.entries()) {
      const file = `c${n}`
      await disk.fail({ ...order, count: 1e6 }) // the checkpoints that come by themselves fail too
      const status = { EIO: 500, ENOSPC: 507 }[order.code]
      // Closing it brings it into the WAL. Whether a sync of it succeeds is asked below: here it would depend on who comes first.
      assert.equal(await attempt(place, `head -c 500000 /dev/urandom > ${file}; sha256sum ${file} >> "${folder}/sums"`), 'done')
      const failed = await service.call('POST', `/volumes/${id}/checkpoint`)
      assert.equal(failed.status, status, JSON.stringify([order, failed.body]))
      // SQLite does not say which of its files it could not sync, so it counts as the WAL.
      assert.match(await attempt(place, `sync ${file}`), order.operation === 'fsync' ? words.EIO : /^done$/)
      await disk.fail()
      const passed = await service.call('POST', `/volumes/${id}/checkpoint`)
      assert.deepEqual([passed.status, passed.body['wal_frames_remaining']], [200, 0])
      assert.equal((await service.call('DELETE', `/volumes/${id}/mount`)).status, 204)
      await service.mount(id) // what is read is what the disk holds, and a failed sync is over
      assert.equal(await attempt(place, `sha256sum -c --quiet "${folder}/sums"; sync ${file}`), 'done')
    }
  }))

const storeRows: readonly FailOrder[] = [
  { operation: 'write', code: 'ENOSPC', count: 1, suffix: '.litevol.new' },
  { operation: 'write', code: 'EIO', count: 1, suffix: '.litevol.new' },
  { operation: 'fsync', code: 'EIO', count: 1, suffix: '.litevol.new' },
  { operation: 'create', code: 'ENOSPC', count: 1 },
  { operation: 'write', code: 'ENOSPC', count: 1, suffix: '' },
  { operation: 'fsync', code: 'EIO', count: 1e6, suffix: 'volumes' }, // SQLite takes no notice of the first
  { operation: 'rename', code: 'EIO', count: 1, suffix: '.litevol.new' },
]

test('errors of the disk while a volume is made: 500 or 507, neither file nor record remains, and the name is free', () =>
  withDisk(async ({ service, disk }) => {
    const list = async (): Promise<number> => ((await service.call('GET', '/volumes')).body as unknown as unknown[]).length
    for (const order of storeRows) {
      const [files, records] = [service.volumeFiles().length, await list()]
      await disk.fail(order)
      const reply = await service.call('POST', '/volumes', { name: 'unlucky' })
      await disk.fail()
      assert.equal(reply.status, { EIO: 500, ENOSPC: 507 }[order.code], JSON.stringify([order, reply.body]))
      assert.deepEqual([service.volumeFiles().length, await list()], [files, records], JSON.stringify(order))
      const id = await service.create('unlucky')
      assert.equal((await service.call('DELETE', `/volumes/${id}`)).status, 204)
    }
    assert.ok(existsSync(disk.mountpoint))
  }))
