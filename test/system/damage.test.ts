/** Damage of every kind under one service: each is named where it is met, nothing of it spreads to the other volumes. */
import assert from 'node:assert/strict'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import { Volume } from '../../src/engine/index.ts'
import { pageSize } from '../../src/engine/schema.ts'
import { shell } from '../mount/support.ts'
import { crash, makeDirectory, makeFile, seededBytes, withFolder } from '../support.ts'
import { Service } from './support.ts'

const frameBytes = 24 + pageSize

/** Flips one bit of a file. */
function flip(file: string, at: number): void {
  const bytes = readFileSync(file)
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
  writeFileSync(file, bytes)
}

const make = (name: string): string => `volume.create(volume.root, Buffer.from('${name}'), { uid: 0, gid: 0, mode: 0o100644 });`

/** What is done to the file of a volume, and how each call must answer: `code`, and a word of the detail. */
const damages: Readonly<Record<string, readonly [spoil: (file: string) => void, code: string, detail: RegExp]>> = {
  missing: [rmSync, 'volume_missing', /\.litevol: does not exist/],
  newer: [(file) => { new Database(file).exec('PRAGMA user_version = 99').close() }, 'newer_format', /\.litevol: format version 99 is newer/],
  text: [(file) => { writeFileSync(file, 'no volume '.repeat(9999)) }, 'io_error', /\.litevol: file is not a database/],
  foreign: [(file) => { rmSync(file); new Database(file).exec('CREATE TABLE t (a)').close() }, 'not_a_volume', /\.litevol: it is an SQLite file but not a litevol volume/],
  header: [(file) => { flip(file, 3) }, 'io_error', /\.litevol: file is not a database/],
  schema: [(file) => { flip(file, 100) }, 'io_error', /\.litevol: (malformed|database disk image is malformed)/],
  wal: [(file) => { crash(file, make('a') + make('b') + make('c')); flip(`${file}-wal`, 32 + frameBytes + 3000) }, 'wal_damaged', /\.litevol-wal, frame 2$/],
} // prettier-ignore

test('a damaged volume is refused by name by stat, export and mount; the others work; it can be deleted', () =>
  withFolder(async (folder) => {
    const roots = { dataRoot: join(folder, 'data'), mountRoot: join(folder, 'mnt') }
    const ids = new Map<string, string>()
    const first = await Service.start(roots, { LITEVOL_LOG_LEVEL: 'silent' })
    try {
      for (const name of ['sound', ...Object.keys(damages)]) ids.set(name, await first.create(name))
      await first.mount(ids.get('sound') ?? '', { persist: true })
      await first.mount(ids.get('newer') ?? '', { persist: true })
    } finally {
      await first.stop()
    }
    const fileOf = (name: string): string => join(roots.dataRoot, 'volumes', `${String(ids.get(name))}.litevol`)
    for (const [name, [spoil]] of Object.entries(damages)) spoil(fileOf(name))
    const service = await Service.start(roots, { LITEVOL_LOG_LEVEL: 'silent' })
    try {
      assert.equal((await service.call('GET', '/volumes')).body['length'], ids.size)
      const { body: status } = await service.call('GET', `/volumes/${String(ids.get('newer'))}/mount`)
      assert.equal(status['state'], 'failed', 'it was to be mounted again')
      assert.match(String(status['reason']), /format version 99 is newer/)
      for (const [name, [, code, detail]] of Object.entries(damages)) {
        const url = `/volumes/${String(ids.get(name))}`
        for (const [method, path] of [['GET', '/stat'], ['GET', '/export'], ['POST', '/mount']] as const) {
          const { status, body } = await service.call(method, url + path, method === 'POST' ? {} : undefined)
          assert.deepEqual([status, body['code']], [500, code], `${name} ${path}: ${JSON.stringify(body)}`)
          assert.match(String(body['detail']), detail, `${name} ${path}`)
        } // prettier-ignore
      }
      const mountpoint = join(roots.mountRoot, ids.get('sound') ?? '')
      await shell('cp -a /usr/share/doc/bash "$1/" && diff -r /usr/share/doc/bash "$1/bash"', mountpoint)
      for (const name of Object.keys(damages)) {
        assert.equal((await service.call('DELETE', `/volumes/${String(ids.get(name))}`)).status, 204, name)
      }
      assert.equal((await service.call('DELETE', `/volumes/${String(ids.get('sound'))}/mount`)).status, 204)
      assert.deepEqual(service.volumeFiles(), [`${String(ids.get('sound'))}.litevol`])
    } finally {
      await service.stop()
    }
  }))

test('pages that make no sense are EIO to whoever reads what lies in them, never other bytes; the rest can be read', () =>
  withFolder(async (folder) => {
    const roots = { dataRoot: join(folder, 'data'), mountRoot: join(folder, 'mnt') }
    const service = await Service.start(roots, { LITEVOL_LOG_LEVEL: 'silent' })
    try {
      const id = await service.create('v')
      const file = join(roots.dataRoot, 'volumes', `${id}.litevol`)
      const contents = Array.from({ length: 40 }, (_, i) => seededBytes(i, 100_000))
      const volume = Volume.open(file)
      const dir = makeDirectory(volume, volume.root, 'dir')
      for (const [i, content] of contents.entries()) makeFile(volume, dir, `f${String(i)}`, content)
      volume.close()
      const chunkOf = new Database(file, { readonly: true })
      const page = Number(chunkOf.prepare("SELECT max(pageno) FROM dbstat WHERE name = 'pieces' AND pagetype = 'leaf'").pluck().get())
      chunkOf.close()
      const bytes = readFileSync(file)
      bytes.fill(0xa5, (page - 1) * pageSize, page * pageSize)
      writeFileSync(file, bytes)
      const mountpoint = await service.mount(id)
      let refused = 0
      for (const [i, content] of contents.entries()) {
        const script = 'base64 -w0 "$1" 2>"$2" || grep -q "Input/output error" "$2"'
        const output = await shell(script, join(mountpoint, 'dir', `f${String(i)}`), join(folder, 'complaint'))
        const read = Buffer.from(output, 'base64')
        assert.ok(read.equals(content.subarray(0, read.length)), 'no other bytes')
        if (read.length < content.length) refused++
      }
      assert.ok(refused > 0 && refused < contents.length, String(refused))
      assert.match(
        await shell('litevol=$1; "$litevol" check --force "$2" || test $? = 1', join(import.meta.dirname, '../../bin/litevol'), file),
        /the SQLite file is intact/,
      )
      assert.equal((await service.call('DELETE', `/volumes/${id}/mount`)).status, 204)
    } finally {
      await service.stop()
    }
  }))
