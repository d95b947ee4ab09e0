/** Exports while applications write without a pause: each is one moment; slow, stuck and broken clients harm nobody. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { S_IFMT, S_IFDIR, type Ino } from '../../src/base/index.ts'
import { Volume, checkVolume } from '../../src/engine/index.ts'
import { shell } from '../mount/support.ts'
import { names, readAll, seededNumbers, until } from '../support.ts'
import { descriptorsOf } from './belongings.ts'
import { withService, type Service } from './support.ts'

const seed = Number(process.env['LITEVOL_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const writers = fileURLToPath(new URL('../faults/moment-writers.py', import.meta.url))
const kinds = ['counters', 'held', 'pairs', 'hashes'] as const
const exportCount = 100

/** The files of a directory of the volume, by name. */
type Files = ReadonlyMap<string, Buffer>

/** Runs the applications while `work` runs; `progress` tells how far one has come. */
async function whileWriting(
  mountpoint: string,
  folder: string,
  work: (progress: (kind: string) => number) => Promise<void>,
): Promise<void> {
  const stop = join(folder, 'stop')
  const progressFile = (kind: string): string => join(folder, `progress-${kind}`)
  const progress = (kind: string): number => (existsSync(progressFile(kind)) ? Number(readFileSync(progressFile(kind), 'latin1')) : 0)
  const running = kinds.map((kind) => shell('python3 "$@"', writers, kind, join(mountpoint, kind), progressFile(kind), stop))
  const ended = Promise.all(running)
  let hasFailed = false
  ended.catch(() => { hasFailed = true }) // prettier-ignore
  try {
    await until('every application has begun', () => hasFailed || kinds.every((kind) => progress(kind) > 50), 120_000)
    if (!hasFailed) await work(progress)
  } finally {
    writeFileSync(stop, '')
  }
  await ended
}

/** Reads a directory of an exported volume, by its path. */
function readFiles(volume: Volume, directory: Ino, prefix = ''): Map<string, Buffer> {
  const files = new Map<string, Buffer>()
  for (const name of names(volume, directory)) {
    const inode = volume.lookup(directory, Buffer.from(name)) ?? assert.fail(`${name} is listed and not found`)
    if ((inode.mode & S_IFMT) === S_IFDIR)
      for (const [path, content] of readFiles(volume, inode.ino, `${prefix}${name}/`)) files.set(path, content)
    else files.set(prefix + name, readAll(volume, inode.ino))
  }
  return files
}

function assertOneMoment(files: Files, before: Readonly<Record<string, number>>): void {
  const below = (kind: string): [string, Buffer][] => [...files].filter(([path]) => path.startsWith(`${kind}/`)).map(([path, content]) => [path.slice(kind.length + 1), content]) // prettier-ignore
  assertCounters(new Map(below('counters')), before['counters'] ?? 0)
  for (const [name, content] of below('held')) {
    const slot = Number(name.slice(1))
    const least = latest(before['held'] ?? 0, slot, 8)
    assert.ok(Number(content) >= least, `held/${name}: ${content.toString()}, but ${least} was written before the request`)
  }
  const pair = new Map(below('pairs'))
  for (const [one, other] of [
    ['a', 'b'],
    ['da/name', 'db/name'],
  ] as const) {
    // prettier-ignore
    assert.deepEqual([String(pair.get(one)), String(pair.get(other))].sort(), ['a', 'b'])
  }
  for (const [name, content] of below('hashes')) {
    if (name !== 'temporary') assert.equal(createHash('sha256').update(content).digest('hex'), name)
  }
}

/** The last number up to `number` that goes into a slot. */
const latest = (number: number, slot: number, slots: number): number => number - ((number - slot + slots) % slots)

/** All files together are the state after one step: at least the last step before the request; the step under way may have emptied its file. */
function assertCounters(files: Files, before: number): void {
  const last = Math.max(...[...files.values()].map(Number))
  assert.ok(last >= before, `counters: at ${last}, but ${before} was done before the request`)
  for (const [name, content] of files) {
    const slot = Number(name.slice(1))
    if (content.length === 0) assert.equal(slot, (last + 1) % 40, `counters/${name} is empty`)
    else assert.equal(Number(content), latest(last, slot, 40), `counters/${name} at ${last}`)
  }
}

/** A mounted volume with `mib` of random bytes. */
async function filled(service: Service, mib: number): Promise<{ id: string; mountpoint: string; url: string }> {
  const id = await service.create('loaded')
  const mountpoint = await service.mount(id)
  await shell('head -c "$2"M /dev/urandom > "$1/data"', mountpoint, String(mib))
  return { id, mountpoint, url: `${service.url}/volumes/${id}/export` }
}

test(`${exportCount} exports while four applications write: each passes integrity_check and check, and is one moment`, (t) =>
  withService(
    async (service, folder) => {
      const { mountpoint, url } = await filled(service, 1)
      let [bytes, broken] = [0, 0]
      // One is broken off when the manager stood still until the WAL had reached its limit, and asked for again.
      const download = async (): Promise<Buffer> => {
        try {
          return Buffer.from(await (await fetch(url)).arrayBuffer())
        } catch (error) {
          if (++broken > 2) throw error
          return download()
        }
      }
      await whileWriting(mountpoint, folder, async (progress) => {
        for (let n = 0; n < exportCount; n++) {
          const before = Object.fromEntries(kinds.map((kind) => [kind, progress(kind)]))
          const content = await download()
          bytes += content.length
          const file = join(folder, 'export.sqlite')
          writeFileSync(file, content)
          const connection = new Database(file)
          assert.equal(connection.pragma('integrity_check', { simple: true }), 'ok')
          connection.close()
          assert.deepEqual(checkVolume(file, { deep: true }), [])
          const volume = Volume.open(file)
          assertOneMoment(readFiles(volume, volume.root), before)
          volume.close()
          rmSync(file)
        }
        t.diagnostic(
          JSON.stringify({ exports: exportCount, bytes, steps: Object.fromEntries(kinds.map((kind) => [kind, progress(kind)])) }),
        )
      })
    },
    // What they write is more than this: downloads one after the other must let the WAL start anew.
    { LITEVOL_EXPORT_WAL_LIMIT: String(256 << 20) },
  ))

/** A download whose client decides when it reads. */
class SlowClient {
  readonly #socket: Socket
  received = Buffer.alloc(0)
  isClosed = false

  constructor(url: string) {
    const { hostname, port, pathname } = new URL(url)
    this.#socket = connect(Number(port), hostname)
    this.#socket.on('error', () => undefined) // a reset is an end too
    this.#socket.on('close', () => {
      this.isClosed = true
    })
    this.#socket.write(`GET ${pathname} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n`)
  }

  /** Takes up to `limit` bytes of what is there. */
  take(limit: number): void {
    const piece = (this.#socket.read(limit) ?? this.#socket.read()) as Buffer | null
    if (piece !== null) this.received = Buffer.concat([this.received, piece])
  }

  /** Of what was received, the ETag and the body. */
  parse(): { etag: string; length: number; body: Buffer } {
    const end = this.received.indexOf('\r\n\r\n')
    const head = this.received.subarray(0, end).toString()
    const field = (name: string): string => new RegExp(`^${name}: (.*)\r?$`, 'im').exec(head)?.[1]?.trim() ?? assert.fail(head)
    return { etag: field('etag'), length: Number(field('content-length')), body: this.received.subarray(end + 4) }
  }

  destroy(): void {
    this.#socket.destroy()
  }
}

test('a client that reads 10 KiB/s gets the bytes of its moment, and writers go on', () =>
  withService(
    async (service, folder) => {
      const { mountpoint, url } = await filled(service, 30)
      const client = new SlowClient(url)
      const timer = setInterval(() => {
        client.take(1024)
      }, 100)
      try {
        await until('the first bytes', () => client.received.includes('\r\n\r\n'))
        await whileWriting(mountpoint, folder, async (progress) => {
          const before = progress('counters')
          await until('the client has read 40 KiB, and 200 steps were done', () => client.received.length > 40_000 && progress('counters') > before + 200, 120_000) // prettier-ignore
        })
        const { etag, length, body } = client.parse()
        assert.ok(!client.isClosed)
        const whole = await fetch(url, { headers: { range: 'bytes=0-', 'if-range': etag } })
        assert.equal(whole.status, 206, 'its snapshot is still held')
        const bytes = Buffer.from(await whole.arrayBuffer())
        assert.equal(bytes.length, length)
        assert.ok(bytes.subarray(0, body.length).equals(body))
      } finally {
        clearInterval(timer)
        client.destroy()
      }
    },
    // How much is written meanwhile is up to the machine.
    { LITEVOL_EXPORT_WAL_LIMIT: String(2 ** 40) },
  ))

test('a client that stops reading: writers go on, the WAL stays near its limit, and the client is cut off', (t) =>
  withService(
    async (service, folder) => {
      const { id, mountpoint, url } = await filled(service, 60)
      const wal = join(service.roots.dataRoot, 'volumes', `${id}.litevol-wal`)
      const client = new SlowClient(url)
      let longest = 0
      const timer = setInterval(() => {
        longest = Math.max(longest, statSync(wal, { throwIfNoEntry: false })?.size ?? 0)
      }, 20)
      try {
        await until('the first bytes', () => {
          client.take(1024)
          return client.received.includes('\r\n\r\n')
        })
        const { length } = client.parse()
        const write = 'cd "$1"; for i in $(seq "$2"); do head -c 8M /dev/urandom > again; sync again; done'
        await shell(write, mountpoint, '24') // 192 MiB: more than the limit
        const { pid = 0 } = service.child
        await until('its snapshot is given up', () => descriptorsOf(pid).every((target) => !target.includes('.litevol')))
        await shell(write, mountpoint, '72')
        await until('the client is cut off', () => {
          client.take(1 << 20)
          return client.isClosed
        })
        assert.ok(client.parse().body.length < length, 'it did not get everything')
        t.diagnostic(`768 MiB written, WAL at most ${Math.round(longest / 2 ** 20)} MiB with a limit of 128`)
        assert.ok(longest < 384 << 20, `the WAL grew to ${longest} bytes`)
        const file = join(folder, 'after.sqlite')
        await shell('curl -fsS "$1" -o "$2"', url, file)
        assert.deepEqual(checkVolume(file, { deep: true }), [])
      } finally {
        clearInterval(timer)
        client.destroy()
      }
    },
    { LITEVOL_EXPORT_WAL_LIMIT: String(128 << 20) },
  ))

const tagOf = (response: Response): string => response.headers.get('etag') ?? assert.fail('no ETag')

/** Reads at most `limit` bytes of a response's body and breaks it off. */
async function readSome(response: Response, limit: number): Promise<Buffer> {
  const pieces: Buffer[] = []
  let length = 0
  const reader = response.body?.getReader() ?? assert.fail('no body')
  while (length < limit) {
    const { done, value } = (await reader.read()) as { done: boolean; value?: Uint8Array }
    if (done || value === undefined) break
    pieces.push(Buffer.from(value))
    length += value.length
  }
  await reader.cancel()
  return Buffer.concat(pieces).subarray(0, limit)
}

test(`an export that is cut at any byte is resumed on the same bytes while writers run (LITEVOL_TEST_SEED=${seed})`, () =>
  withService(
    async (service, folder) => {
      const { mountpoint, url } = await filled(service, 4)
      const next = seededNumbers(seed)
      await whileWriting(mountpoint, folder, async () => {
        const first = await fetch(url)
        const etag = tagOf(first)
        const size = Number(first.headers.get('content-length'))
        let whole = await readSome(first, next() % size)
        for (let cuts = 0; whole.length < size; cuts++) {
          if (cuts % 5 === 0) await (await fetch(url)).arrayBuffer() // somebody else's, of a later moment
          const rest = await fetch(url, { headers: { range: `bytes=${whole.length}-`, 'if-range': etag } })
          assert.deepEqual([rest.status, tagOf(rest)], [206, etag])
          assert.equal(rest.headers.get('content-range'), `bytes ${whole.length}-${size - 1}/${size}`)
          whole = Buffer.concat([whole, await readSome(rest, cuts < 25 ? next() % 400_000 : size)])
        }
        const file = join(folder, 'whole.sqlite')
        writeFileSync(file, whole)
        assert.deepEqual(checkVolume(file, { deep: true }), [])
        const edges = [0, 1, 511, 512, 4095, 4096, 4097, 8192, size - 4096, size - 1]
        for (const offset of [...edges, ...Array.from({ length: 30 }, () => next() % size)]) {
          const rest = await fetch(url, { headers: { range: `bytes=${offset}-`, 'if-range': etag } })
          assert.equal(rest.status, 206)
          assert.ok(Buffer.from(await rest.arrayBuffer()).equals(readFileSync(file).subarray(offset)), `the bytes from ${offset} on`)
        }
      })
    },
    // What is written while its lease runs is up to the machine.
    { LITEVOL_EXPORT_WAL_LIMIT: String(2 ** 40) },
  ))

test(`around the end of its lease a broken export goes on with 206 and the same bytes, or anew with 200 (LITEVOL_TEST_SEED=${seed})`, () =>
  withService(
    async (service, folder) => {
      const { mountpoint, url } = await filled(service, 4)
      const next = seededNumbers(seed)
      const seen = new Set<number>()
      await whileWriting(mountpoint, folder, async () => {
        for (let round = 0; round < 12 || (seen.size < 2 && round < 40); round++) {
          const first = await fetch(url)
          const size = Number(first.headers.get('content-length'))
          const part = await readSome(first, next() % size)
          if (next() % 2 === 0) await (await fetch(url)).arrayBuffer() // somebody else's, of a later moment
          await sleep(next() % 2000) // the lease is a second: what has to be hit is its end
          const rest = await fetch(url, { headers: { range: `bytes=${part.length}-`, 'if-range': tagOf(first) } })
          const bytes = Buffer.from(await rest.arrayBuffer())
          seen.add(rest.status)
          assert.equal(rest.status === 206, tagOf(rest) === tagOf(first), `${rest.status} with ${tagOf(rest)}`)
          assert.equal(bytes.length, Number(rest.headers.get('content-length')))
          const file = join(folder, 'resumed.sqlite')
          writeFileSync(file, rest.status === 206 ? Buffer.concat([part, bytes]) : bytes)
          assert.deepEqual(checkVolume(file, { deep: true }), [])
        }
      })
      assert.deepEqual([...seen].sort(), [200, 206])
    },
    { LITEVOL_EXPORT_LEASE: '1' },
  ))
