import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkVolume } from '../../src/engine/index.ts'
import { until } from '../support.ts'
import { mountFile, shell } from '../mount/support.ts'
import { descriptorsOf } from './belongings.ts'
import { withService, type Service } from './support.ts'

/** A mounted volume with `mib` of random bytes in it; returns its id and mountpoint. */
async function filled(service: Service, mib: number): Promise<{ id: string; mountpoint: string; url: string }> {
  const id = await service.create('filled')
  const mountpoint = await service.mount(id)
  await shell('head -c "$2"M /dev/urandom > "$1/data"', mountpoint, String(mib))
  return { id, mountpoint, url: `${service.url}/volumes/${id}/export` }
}

/** Runs a writer on the mount while `work` runs; it must see no error. */
async function whileWriting(mountpoint: string, work: () => Promise<void>): Promise<void> {
  const script =
    'trap "exit 0" TERM; i=0; while :; do i=$((i+1)); echo $i > "$1/w$((i % 20))"; head -c 30000 /dev/urandom >> "$1/grow"; done'
  const writer = spawn('bash', ['-eu', '-c', script, 'bash', mountpoint], { stdio: ['ignore', 'ignore', 'pipe'] })
  try {
    await until('it writes', () => existsSync(join(mountpoint, 'grow'))) // and so knows what SIGTERM means
    await work()
  } finally {
    writer.kill('SIGTERM')
    const [code] = (await once(writer, 'exit')) as [number]
    assert.equal(code, 0, String(writer.stderr.read()))
  }
}

const tagOf = (response: { headers: Headers }): string => response.headers.get('etag') ?? assert.fail('no ETag')

test('a download that broke goes on with Range and If-Range on the same bytes while writers run', () =>
  withService(async (service, folder) => {
    const { mountpoint, url } = await filled(service, 60)
    await whileWriting(mountpoint, async () => {
      const part = join(folder, 'part')
      // Cut by the client after some MiB; curl then goes on with what it has.
      await shell('curl -sS -D - "$1" 2>/dev/null | head -c 20000000 > "$2.raw" || true', url, part)
      const raw = readFileSync(`${part}.raw`)
      const start = raw.indexOf('\r\n\r\n') + 4
      const etag = /^etag: (.*)\r$/im.exec(raw.subarray(0, start).toString())?.[1] ?? assert.fail('no ETag')
      const first = raw.subarray(start)
      const rest = await fetch(url, { headers: { range: `bytes=${String(first.length)}-`, 'if-range': etag } })
      assert.equal(rest.status, 206)
      assert.equal(rest.headers.get('etag'), etag)
      const whole = Buffer.concat([first, Buffer.from(await rest.arrayBuffer())])
      const again = await fetch(url, { headers: { range: 'bytes=0-', 'if-range': etag } })
      assert.ok(Buffer.from(await again.arrayBuffer()).equals(whole), 'the same snapshot gives the same bytes')
      writeFileSync(part, whole)
      assert.deepEqual(checkVolume(part, { deep: true }), [])
    })
  }))

test('after the lease a resumed download starts anew with 200, never a mixture', () =>
  withService(
    async (service) => {
      const { mountpoint, url } = await filled(service, 1)
      const first = await fetch(url)
      await first.arrayBuffer()
      await shell('echo more > "$1/more"', mountpoint)
      const { pid = 0 } = service.child
      await until('the lease is over', () => descriptorsOf(pid).every((target) => !target.includes('.litevol')))
      const resumed = await fetch(url, { headers: { range: 'bytes=100-', 'if-range': tagOf(first) } })
      assert.equal(resumed.status, 200)
      assert.notEqual(tagOf(resumed), tagOf(first))
      assert.equal((await resumed.arrayBuffer()).byteLength, Number(resumed.headers.get('content-length')))
    },
    { LITEVOL_EXPORT_LEASE: '1' },
  ))

test('HEAD, If-None-Match and 416 speak of the bytes that a GET would send', () =>
  withService(async (service) => {
    const { mountpoint, url } = await filled(service, 1)
    const head = await fetch(url, { method: 'HEAD' })
    const get = await fetch(url)
    const size = (await get.arrayBuffer()).byteLength
    assert.deepEqual([head.status, head.headers.get('content-length'), tagOf(head)], [200, String(size), tagOf(get)])
    assert.equal(head.headers.get('accept-ranges'), 'bytes')
    const same = await fetch(url, { headers: { 'if-none-match': tagOf(get) } })
    assert.equal(same.status, 304)
    const beyond = await fetch(url, { headers: { range: `bytes=${String(size)}-` } })
    assert.deepEqual([beyond.status, beyond.headers.get('content-range')], [416, `bytes */${String(size)}`])
    await shell('echo x > "$1/x"', mountpoint)
    const changed = await fetch(url, { headers: { 'if-none-match': tagOf(get) } })
    assert.equal(changed.status, 200)
    await changed.arrayBuffer()
  }))

test('an export holds what was written into a file that is still open, and unmounted it is the file itself', () =>
  withService(async (service, folder) => {
    const { id, mountpoint, url } = await filled(service, 1)
    const writer = spawn('bash', ['-c', 'exec 3>"$1/open"; echo not yet closed >&3; echo ready; read', 'bash', mountpoint], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    await once(writer.stdout, 'data')
    const snapshot = join(folder, 'snapshot.sqlite')
    await shell('curl -fsS "$1" -o "$2"', url, snapshot)
    writer.stdin.end('\n')
    await once(writer, 'exit')
    mkdirSync(join(folder, 'm'))
    const other = await mountFile(snapshot, join(folder, 'm'))
    assert.equal(await shell('cat "$1/open"', other.mountpoint), 'not yet closed\n')
    await other.stop()
    const mounted = await fetch(url)
    const bytes = Buffer.from(await mounted.arrayBuffer())
    assert.equal((await service.call('DELETE', `/volumes/${id}/mount`)).status, 204)
    const unmounted = await fetch(url)
    assert.equal(tagOf(unmounted), tagOf(mounted), 'an unmount changes nothing')
    assert.ok(Buffer.from(await unmounted.arrayBuffer()).equals(bytes))
  }))

test('an export of an unmounted volume goes on over a mount and its writes', () =>
  withService(async (service, folder) => {
    const { id, url } = await filled(service, 40)
    await service.call('DELETE', `/volumes/${id}/mount`)
    const file = join(folder, 'slow.sqlite')
    const download = shell('curl -fsS --limit-rate 16M "$1" -o "$2"', url, file)
    await until('the download has begun', () => (statSync(file, { throwIfNoEntry: false })?.size ?? 0) > 0)
    const mountpoint = await service.mount(id)
    await shell('rm "$1/data"; head -c 50M /dev/urandom > "$1/other"; sync "$1/other"', mountpoint)
    await download
    assert.deepEqual(checkVolume(file, { deep: true }), [])
    mkdirSync(join(folder, 'm'))
    const other = await mountFile(file, join(folder, 'm'))
    assert.equal(await shell('ls "$1"', other.mountpoint), 'data\n')
    await other.stop()
  }))

test('a running export makes unmount busy; by force the download fails and never ends short', () =>
  withService(async (service, folder) => {
    const { id, url } = await filled(service, 40)
    const file = join(folder, 'cut.sqlite')
    const curl = spawn('curl', ['-fsS', '--limit-rate', '2M', url, '-o', file], { stdio: 'ignore' })
    const ended = once(curl, 'exit') as Promise<[number]>
    await shell('for i in $(seq 100); do [ -s "$1" ] && exit 0; sleep 0.1; done; exit 1', file)
    const refused = await service.call('DELETE', `/volumes/${id}/mount`)
    assert.deepEqual([refused.status, refused.body['code']], [409, 'busy'])
    assert.equal((await service.call('DELETE', `/volumes/${id}/mount?force=true`)).status, 204)
    const [code] = await ended
    assert.notEqual(code, 0)
    assert.ok(statSync(file).size < 40 << 20)
  }))

test('stat moves with every change, and with nothing else', () =>
  withService(async (service) => {
    const { id, mountpoint, url } = await filled(service, 1)
    const stat = () => service.call('GET', `/volumes/${id}/stat`)
    const before = await stat()
    await service.call('POST', `/volumes/${id}/checkpoint`)
    await (await fetch(url)).arrayBuffer()
    await shell('cat "$1"/* > /dev/null; ls -la "$1" > /dev/null', mountpoint)
    await service.call('DELETE', `/volumes/${id}/mount`)
    const unmounted = await stat()
    await service.mount(id)
    const after = await stat()
    for (const later of [unmounted, after]) {
      assert.deepEqual([tagOf(later), later.body['mtime']], [tagOf(before), before.body['mtime']])
    }
    assert.equal((await service.call('GET', `/volumes/${id}/stat`, undefined, { 'if-none-match': tagOf(before) })).status, 304)
    let last = after
    for (const change of ['touch "$1/a"', 'echo x >> "$1/a"', 'chmod 600 "$1/a"', 'mv "$1/a" "$1/b"', 'rm "$1/b"']) {
      await shell(change, mountpoint)
      const next = await stat()
      assert.notEqual(tagOf(next), tagOf(last), change)
      assert.ok(Number(next.body['mtime']) > Number(last.body['mtime']), change)
      last = next
    }
  }))

test('exports go on under writers that make a file under a temporary name and rename it', () =>
  withService(async (service, folder) => {
    const { mountpoint, url } = await filled(service, 1)
    const script = `import os,sys,time
i=0
while not os.path.exists(sys.argv[2]):
    i+=1; t='%s/t%s-%d'%(sys.argv[1],sys.argv[3],i)
    with open(t,'wb') as f: f.write(os.urandom(4096)); time.sleep(0.005); os.rename(t,t+'.done')
    if i%2: os.unlink(t+'.done')`
    const stop = join(folder, 'stop')
    const writers = ['a', 'b', 'c', 'd'].map((name) => shell('python3 -c "$1" "$2" "$3" "$4"', script, mountpoint, stop, name))
    const file = join(folder, 'e.sqlite')
    for (let round = 0; round < 8; round++) {
      await shell('curl -fsS "$1" -o "$2"', url, file)
      assert.deepEqual(checkVolume(file), [])
    }
    await shell('touch "$1"', stop)
    await Promise.all(writers)
  }))

/** Starts an export of a volume of 60 MiB, unmounts it by hand after other content, waits if asked to, reads what still comes and checks it. */
const unmountByHand = (isWaiting: boolean): Promise<void> =>
  withService(async (service) => {
    const { mountpoint, url } = await filled(service, 60)
    await (await fetch(url)).arrayBuffer() // its lease keeps the WAL: the next snapshot lies in it
    await shell('echo small > "$1/small"', mountpoint)
    const whole = Buffer.from(await (await fetch(url)).arrayBuffer())
    const response = await fetch(url)
    const reader = response.body?.getReader() ?? assert.fail('no body')
    const received: Uint8Array[] = []
    const receive = async (): Promise<boolean> => {
      const { done, value } = (await reader.read()) as { done: boolean; value?: Uint8Array }
      if (value !== undefined) received.push(value)
      return !done
    }
    const receiveAll = async (): Promise<'all' | 'cut'> => {
      try {
        while (await receive()) continue
        return 'all'
      } catch {
        return 'cut'
      }
    }
    const untilOneFile = async (): Promise<void> => {
      await until('the volume is closed', () => service.volumeFiles().length === 1)
    }
    await receive() // and then nothing, until the volume is unmounted with other content
    await shell('head -c 60M /dev/urandom > "$1/data"; sync "$1/data"; umount "$1"', mountpoint)
    if (isWaiting) await untilOneFile()
    const outcome = await receiveAll()
    const sent = Buffer.concat(received)
    assert.ok(sent.equals(whole.subarray(0, sent.length)), 'what was sent belongs to the snapshot')
    if (isWaiting) assert.equal(outcome, 'cut')
    else assert.equal(outcome === 'all', sent.length === whole.length)
    await untilOneFile()
  })

test('an export that runs while somebody unmounts the volume by hand breaks off: what was sent are its bytes', () => unmountByHand(true))

// As long as the process that served it has not closed the volume, the snapshot is there.
test('an export that is read on while the volume is closed ends whole or breaks off: what was sent are its bytes', () =>
  unmountByHand(false))
