import assert from 'node:assert/strict'
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import { Volume, checkVolume, createVolumeFile } from '../../src/engine/index.ts'
import { shell } from '../mount/support.ts'
import { makeDirectory, makeFile, seededBytes, until } from '../support.ts'
import { withService, type Service } from './support.ts'

/** A volume file with some content: `size` bytes in /dir/data. */
function makeVolume(file: string, size = 300_000): string {
  createVolumeFile(file)
  const volume = Volume.open(file)
  const dir = makeDirectory(volume, volume.root, 'dir')
  makeFile(volume, dir, 'data', seededBytes(7, size))
  volume.close()
  return file
}

/** Sends a file as people do; returns status, body and the complaints of curl. */
async function send(service: Service, name: string, file: string, ...args: string[]) {
  const script = 'url=$1 file=$2; shift 2; curl -sS -w "\\n%{http_code}" -X POST -T "$file" "$@" "$url"'
  const output = await shell(script, `${service.url}/volumes/import?name=${name}`, file, ...args)
  const [body = '', status] = output.split(/\n(?=\d+$)/)
  return { status: Number(status), body: JSON.parse(body) as Record<string, unknown> }
}

/** No volume but those named, no file but theirs, no check running. */
async function assertOnly(service: Service, names: readonly string[]): Promise<void> {
  const { body } = await service.call('GET', '/volumes')
  const volumes = body as unknown as readonly { id: string; name: string }[]
  assert.deepEqual(volumes.map(({ name }) => name), names) // prettier-ignore
  assert.deepEqual(service.volumeFiles().sort(), volumes.map(({ id }) => `${id}.litevol`).sort()) // prettier-ignore
  assert.equal(await shell('pgrep -f "^litevol: checking $1" || true', service.roots.dataRoot), '')
}

/** Imports a file until its check is stopped in its midst: one that was over before it was seen is done again. Returns the curl that waits. */
async function importUntilHeld(service: Service, file: string): Promise<ChildProcessByStdio<null, null, Readable>> {
  for (let n = 0; n < 10; n++) {
    const name = `checked${String(n)}`
    const curl = spawn('curl', ['-sS', '-X', 'POST', '-T', file, `${service.url}/volumes/import?name=${name}`], { stdio: ['ignore', 'ignore', 'pipe'] }) // prettier-ignore
    const script = 'until pkill -STOP -f "^litevol: checking $1"; do kill -0 "$2" || exit 0; done; echo held'
    if ((await shell(script, service.roots.dataRoot, String(curl.pid))) === 'held\n') return curl
    const { body } = await service.call('GET', '/volumes')
    const done = (body as unknown as readonly { id: string; name: string }[]).find((volume) => volume.name === name)
    assert.equal((await service.call('DELETE', `/volumes/${done?.id ?? ''}`)).status, 204)
  }
  return assert.fail('no check was seen in ten imports')
}

test('an export is restored by curl -T and holds what the volume held', () =>
  withService(async (service, folder) => {
    const mountpoint = await service.mount(await service.create('origin'))
    await shell('cp -a /usr/share/doc/b* "$1/"; ln -s b "$1/link"; truncate -s 1G "$1/sparse"', mountpoint)
    const snapshot = join(folder, 'snap.sqlite')
    const origin = (await service.call('GET', '/volumes')).body as unknown as readonly { id: string }[]
    await shell('curl -fsS "$1" -o "$2"', `${service.url}/volumes/${String(origin[0]?.id)}/export`, snapshot)
    const response = await send(service, 'restored', snapshot)
    assert.equal(response.status, 201, JSON.stringify(response.body))
    assert.partialDeepStrictEqual(response.body, { name: 'restored', mounted: false, state: 'unmounted', encrypted: false, persist: false })
    const id = String(response.body['id'])
    assert.ok(readFileSync(join(service.roots.dataRoot, 'volumes', `${id}.litevol`)).equals(readFileSync(snapshot)))
    const copy = await service.mount(id)
    await shell('diff -r --no-dereference "$1" "$2"', mountpoint, copy)
    await shell('echo more > "$1/more"', copy)
    for (const one of [id, String(origin[0]?.id)]) assert.equal((await service.call('DELETE', `/volumes/${one}/mount`)).status, 204)
    await assertOnly(service, ['origin', 'restored'])
  }))

const mediaTypes = ['application/octet-stream', 'application/vnd.sqlite3', 'application/json', 'text/plain; charset=utf-8', 'nonsense', '']
test('any media type will do, chunked or not', () =>
  withService(async (service, folder) => {
    const file = makeVolume(join(folder, 'v.sqlite'))
    for (const [index, type] of mediaTypes.entries()) {
      for (const encoding of ['', 'Transfer-Encoding: chunked']) {
        const name = `v${String(index)}${encoding === '' ? '' : 'c'}`
        const { status, body } = await send(service, name, file, '-H', `content-type: ${type}`, '-H', encoding === '' ? 'x-y: z' : encoding)
        assert.equal(status, 201, `${type}: ${JSON.stringify(body)}`)
      }
    }
  }))

test('a rollback-mode file and one with other pages are volumes too', () =>
  withService(async (service, folder) => {
    const file = makeVolume(join(folder, 'v.sqlite'))
    const connection = new Database(file)
    connection.pragma('journal_mode = DELETE')
    connection.pragma('page_size = 4096')
    connection.exec('VACUUM').close()
    const { status, body } = await send(service, 'v', file)
    assert.equal(status, 201, JSON.stringify(body))
    const mountpoint = await service.mount(String(body['id']))
    assert.ok(Buffer.from(await shell('base64 -w0 "$1/dir/data"', mountpoint), 'base64').equals(seededBytes(7, 300_000)))
  }))

const sql = (statement: string) => (file: string): void => {
  const connection = new Database(file)
  connection.unsafeMode(true)
  connection.exec(statement).close()
} // prettier-ignore
const flip = (needle: Buffer) => (file: string): void => {
  const bytes = readFileSync(file)
  const at = bytes.indexOf(needle)
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
  writeFileSync(file, bytes)
} // prettier-ignore

/** What is done to a good file, and what the refusal must say. */
const refused: readonly (readonly [what: string, spoil: (file: string) => void, code: string, detail: RegExp])[] = [
  ['an empty file', (file) => { truncateSync(file) }, 'invalid_volume_file', /byte 0: it is empty/],
  ['a text', (file) => { writeFileSync(file, 'no volume '.repeat(9999)) }, 'invalid_volume_file', /byte 0: it is no SQLite file/],
  ['a header alone', (file) => { truncateSync(file, 50) }, 'invalid_volume_file', /byte 50: it ends within its header/],
  ['another SQLite file', (file) => { rmSync(file); sql('CREATE TABLE t (a)')(file) }, 'invalid_volume_file', /byte 68: it is an SQLite file but not a litevol volume/],
  ['a newer version', sql('PRAGMA user_version = 99'), 'newer_volume_file', /byte 60: format version 99 is newer than this litevol, which knows \d+/],
  ['a cut file', (file) => { truncateSync(file, statSync(file).size - 4096 * 3) }, 'invalid_volume_file', /byte \d+, where the file ends: by its header it has \d+: breaks "the file ends where its header says"$/],
  ['a file with zeros behind it', (file) => { truncateSync(file, statSync(file).size + 4096) }, 'invalid_volume_file', /byte \d+, where the file ends by its header: it has \d+: breaks/],
  ['a trigger', sql('CREATE TRIGGER evil AFTER INSERT ON inodes BEGIN DELETE FROM chunks; END'), 'invalid_volume_file', /trigger evil, which does not belong in a volume/],
  ['a view', sql('CREATE VIEW v AS SELECT 1'), 'invalid_volume_file', /view v, which/],
  ['an extra table', sql('CREATE TABLE t (a)'), 'invalid_volume_file', /table t, which/],
  ['a broken invariant', sql('UPDATE inodes SET nlink = 9 WHERE ino = 4'), 'invalid_volume_file', /inode 4 \(\/dir\/data\): breaks "nlink of a file counts its entries"/],
  ['a chunk whose address is false', sql("UPDATE chunks SET address = randomblob(32) WHERE id = 1"), 'invalid_volume_file', /chunk 1 \(\/dir\/data\): breaks "a chunk has the content that its address names"/],
  ['a flipped bit', flip(seededBytes(7, 300_000).subarray(1000, 1016)), 'invalid_volume_file', /chunk 1 \(\/dir\/data\)/],
] // prettier-ignore

test('what is no sound volume file is 422 with the place, and nothing is left', () =>
  withService(
    async (service, folder) => {
      await service.create('other')
      const good = makeVolume(join(folder, 'good.sqlite'))
      for (const [what, spoil, code, detail] of refused) {
        const bad = join(folder, 'bad.sqlite')
        copyFileSync(good, bad)
        spoil(bad)
        const { status, body } = await send(service, 'bad', bad)
        assert.deepEqual([status, body['code']], [422, code], `${what}: ${JSON.stringify(body)}`)
        assert.match(String(body['detail']), detail, what)
        await assertOnly(service, ['other'])
      }
      const { body } = await send(service, 'bad', sqlFile(good, join(folder, 'two'), 'UPDATE inodes SET nlink = 9'))
      const findings = body['findings'] as readonly { rule: string; place: string }[]
      assert.equal(findings.length, 3)
      assert.deepEqual(findings[0], { rule: 'nlink of a file counts its entries', place: 'inode 4 (/dir/data)' })
      assert.match(String(body['detail']), /and 2 more findings$/)
      assert.equal((await send(service, 'bad', good)).status, 201, 'the name is free again')
    },
    { LITEVOL_LOG_LEVEL: 'silent' },
  ))

function sqlFile(from: string, to: string, statement: string): string {
  copyFileSync(from, to)
  sql(statement)(to)
  return to
}

test('a taken name is 409 before the body is sent, a wrong one 400; while an import runs its name is taken', () =>
  withService(async (service, folder) => {
    await service.create('taken')
    const file = makeVolume(join(folder, 'v.sqlite'), 30_000_000)
    for (const [name, status, code] of [['taken', 409, 'name_taken'], ['a%2Fb', 400, 'invalid'], ['', 400, 'invalid']] as const) {
      const url = `${service.url}/volumes/import?name=${name}`
      const script = 'curl -sS -o "$3" -w "%{http_code} %{size_upload}" -H "Expect: 100-continue" --expect100-timeout 60 -X POST -T "$1" "$2"'
      assert.equal(await shell(script, file, url, join(folder, 'reply')), `${String(status)} 0`)
      assert.partialDeepStrictEqual(JSON.parse(readFileSync(join(folder, 'reply'), 'utf8')), { code })
    } // prettier-ignore
    const slow = request(`${service.url}/volumes/import?name=slow`, { method: 'POST' })
    const broken = once(slow, 'error')
    slow.write(readFileSync(file).subarray(0, 5_000_000))
    await until('the import has begun', () => service.volumeFiles().some((name) => name.endsWith('.new')))
    assert.equal((await send(service, 'slow', file)).status, 409)
    assert.equal((await service.call('POST', '/volumes', { name: 'slow' })).status, 409)
    slow.destroy(new Error('the sender goes away'))
    await broken
    await until('nothing is left', () => service.volumeFiles().every((name) => !name.endsWith('.new')))
    await assertOnly(service, ['taken'])
    assert.equal((await send(service, 'slow', file)).status, 201)
  }))

test('a sender that goes away while its file is checked leaves nothing', () =>
  withService(async (service, folder) => {
    const file = makeVolume(join(folder, 'v.sqlite'), 100_000_000)
    const curl = await importUntilHeld(service, file)
    curl.kill('SIGKILL')
    await until('nothing is left', () => service.volumeFiles().length === 0)
    await assertOnly(service, [])
  }))

test('a full disk is 507 and leaves nothing; the service goes on', () =>
  withService(async (service, folder) => {
    const volumes = join(service.roots.dataRoot, 'volumes')
    const file = makeVolume(join(folder, 'v.sqlite'), 150_000_000)
    await shell('mount -t tmpfs -o size=200m litevol-test "$1"', volumes)
    try {
      const known = await send(service, 'v', file)
      assert.deepEqual([known.status, known.body['code']], [507, 'no_space'])
      await shell('head -c 100M /dev/zero > "$1/filler"', volumes)
      const chunked = await send(service, 'v', file, '-H', 'Transfer-Encoding: chunked')
      assert.deepEqual([chunked.status, chunked.body['code']], [507, 'no_space'])
      await shell('rm "$1/filler"', volumes)
      await assertOnly(service, [])
      const small = await send(service, 'v', makeVolume(join(folder, 'small.sqlite')))
      assert.equal(small.status, 201)
      assert.equal((await service.call('DELETE', `/volumes/${String(small.body['id'])}`)).status, 204)
    } finally {
      await shell('umount "$1"', volumes)
    }
  }))

test('a stop while a file comes, or is checked, leaves nothing', () =>
  withService(async (service, folder) => {
    const file = makeVolume(join(folder, 'v.sqlite'), 100_000_000)
    const coming = request(`${service.url}/volumes/import?name=coming`, { method: 'POST' })
    const broken = once(coming, 'error')
    coming.write(readFileSync(file).subarray(0, 1_000_000))
    const complaint = text((await importUntilHeld(service, file)).stderr)
    await service.stop()
    await broken
    assert.match(await complaint, /curl/)
    assert.deepEqual(service.volumeFiles(), [])
    assert.equal(await shell('pgrep -f "^litevol: checking $1" || true', service.roots.dataRoot), '')
  }))

test('what a killed manager left of an import is gone after the next start', () =>
  withService(async (service, folder) => {
    const left = join(service.roots.dataRoot, 'volumes', '01a1fcde-e797-7572-9d33-fbbb056ede9b.litevol.new')
    makeVolume(join(folder, 'v.sqlite'))
    await service.stop()
    copyFileSync(join(folder, 'v.sqlite'), left)
    const roots = { dataRoot: service.roots.dataRoot, mountRoot: join(folder, 'mnt2') }
    mkdirSync(roots.mountRoot)
    const { Service } = await import('./support.ts')
    const second = await Service.start(roots)
    try {
      assert.deepEqual(readdirSync(join(roots.dataRoot, 'volumes')), [])
    } finally {
      await second.stop()
    }
  }))

test('two imports of one file are two volumes', () =>
  withService(async (service, folder) => {
    const file = makeVolume(join(folder, 'v.sqlite'))
    const [a, b] = await Promise.all([send(service, 'a', file), send(service, 'b', file)])
    assert.deepEqual([a.status, b.status], [201, 201])
    assert.notEqual(a.body['id'], b.body['id'])
    for (const name of service.volumeFiles()) assert.deepEqual(checkVolume(join(service.roots.dataRoot, 'volumes', name)), [])
  }))
