/** examples/backup.sh, run for real over a link that is cut at random. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { checkVolume } from '../../src/engine/index.ts'
import { shell } from '../mount/support.ts'
import { seededNumbers, until } from '../support.ts'
import { Service, withRoots, withService } from './support.ts'

const seed = Number(process.env['LITEVOL_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
/** How often the volume is written to, and left alone until the replica is equal. */
const phases = 6

const script = fileURLToPath(new URL('../../examples/backup.sh', import.meta.url))

/** A link to the service that breaks after a random number of bytes, and keeps what was asked and how it was answered. */
class Link {
  /** `GET /volumes/…/stat` and the first line of the answer, `HTTP/1.1 304 Not Modified`. */
  readonly seen: { readonly request: string; readonly answer: string }[] = []
  cuts = 0
  isReliable = false
  readonly #server: Server
  readonly #next: () => number

  private constructor(target: string, seed: number) {
    this.#next = seededNumbers(seed)
    this.#server = createServer((client) => {
      this.#carry(client, connect(Number(new URL(target).port), '127.0.0.1'))
    })
  }

  static async open(target: string, seed: number): Promise<Link> {
    const link = new Link(target, seed)
    link.#server.listen(0, '127.0.0.1')
    await once(link.#server, 'listening')
    return link
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  close(): void {
    this.#server.close()
  }

  /** Two of three connections are cut, after up to 2 MB. */
  #carry(client: Socket, service: Socket): void {
    let left = this.isReliable || this.#next() % 3 === 0 ? Infinity : this.#next() % 2_000_000
    let request = ''
    const end = (): void => {
      client.destroy()
      service.destroy()
    }
    for (const socket of [client, service]) {
      socket.on('error', end)
      socket.on('close', end)
    }
    client.on('data', (piece) => {
      request ||= piece.toString('latin1').split(' HTTP/')[0] ?? ''
      service.write(piece)
    })
    let isFirst = true
    service.on('data', (piece) => {
      if (isFirst) this.seen.push({ request, answer: piece.toString('latin1').split('\r\n')[0] ?? '' })
      isFirst = false
      const passed = piece.subarray(0, Math.min(piece.length, left))
      left -= piece.length
      if (left > 0) {
        if (!client.write(passed)) service.pause()
        return
      }
      this.cuts++
      client.end(passed, end)
    })
    client.on('drain', () => service.resume())
  }
}

test(`the backup loop over a link that breaks: the replica is always whole, ends equal, and rest costs one 304 (LITEVOL_TEST_SEED=${seed})`, (t) =>
  withService(async (service, folder) => {
    const id = await service.create('photos')
    const mountpoint = await service.mount(id)
    await shell('cd "$1"; for i in $(seq 8); do head -c 500000 /dev/urandom > base$i; done', mountpoint)
    const link = await Link.open(service.url, seed)
    const replica = join(folder, 'replica.sqlite')
    const loop = spawn('sh', [script, link.url, id, replica, '0.2'], { stdio: ['ignore', 'ignore', 'pipe'] })
    const complaints = text(loop.stderr)
    const versions = new Set<string>()
    try {
      const writing = 'cd "$1"; while [ ! -e "$2" ]; do head -c $((RANDOM * 4)) /dev/urandom > f$((RANDOM % 40)); rm -f f$((RANDOM % 40)); sleep 0.02; done' // prettier-ignore
      for (let phase = 0; phase < phases; phase++) {
        const stop = join(folder, `stop${phase}`)
        const writer = shell(writing, mountpoint, stop)
        const [versionsBefore, cutsBefore] = [versions.size, link.cuts]
        await until(
          'new versions of the replica, and more cuts',
          async () => {
            await sleep(100)
            versions.add(readTag(`${replica}.token`))
            return versions.size >= versionsBefore + 2 && link.cuts >= cutsBefore + 5 && isWhole(replica)
          },
          300_000,
        )
        writeFileSync(stop, '')
        await writer
        const quiet = await service.call('GET', `/volumes/${id}/stat`)
        await until('the replica has caught up', () => readTag(`${replica}.token`) === quiet.headers.get('etag'), 120_000)
        const now = Buffer.from(await (await fetch(`${service.url}/volumes/${id}/export`)).arrayBuffer())
        assert.ok(readFileSync(replica).equals(now), 'it ends equal')
      }
      link.isReliable = true
      const from = link.seen.length
      await until('five more looks', () => link.seen.length >= from + 6)
      const rest = link.seen.slice(from + 1) // one may have been under way on the bad link
      for (const { request, answer } of rest) assert.deepEqual([request, answer], [`GET /volumes/${id}/stat`, 'HTTP/1.1 304 Not Modified'])
      const resumed = link.seen.filter(({ answer }) => answer.includes(' 206 ')).length
      t.diagnostic(JSON.stringify({ requests: link.seen.length, cuts: link.cuts, resumed, versions: versions.size }))
      assert.ok(resumed > 0)
    } finally {
      loop.kill('SIGTERM')
      await once(loop, 'exit')
      link.close()
    }
    assert.doesNotMatch(await complaints, /usage|not found|syntax|backup: /i)
  }))

/** Asserts that the replica as it is now is a sound volume; a copy is checked, since the next one may replace it. */
function isWhole(replica: string): boolean {
  const copy = `${replica}.copy`
  copyFileSync(replica, copy)
  assert.deepEqual(checkVolume(copy, { deep: true }), [])
  return true
}

function readTag(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : ''
}

test('the backup script ends after one look when told so, leaves replica and token only, and takes the bearer token from a file', () =>
  withRoots(async (roots, folder) => {
    const tokenFile = join(folder, 'token')
    writeFileSync(tokenFile, 'a-secret\n', { mode: 0o600 })
    const service = await Service.start(roots, { LITEVOL_TOKEN_FILE: tokenFile })
    try {
      const headers = { authorization: 'Bearer a-secret' }
      const { body } = await service.call('POST', '/volumes', { name: 'one' }, headers)
      const replica = join(folder, 'replica.sqlite')
      const run = 'LITEVOL_TOKEN_FILE=$1 sh "$2" "$3" "$4" "$5" 0; ls -A "$(dirname "$5")" | grep "^replica" | sort'
      for (let look = 0; look < 2; look++) {
        const left = await shell(run, tokenFile, script, service.url, String(body['id']), replica)
        assert.equal(left, 'replica.sqlite\nreplica.sqlite.token\n')
      }
      assert.deepEqual(checkVolume(replica, { deep: true }), [])
      await service.stop()
    } finally {
      if (service.child.exitCode === null) service.child.kill('SIGKILL')
    }
  }))
