/** Who sees a volume: consumers by what they bind, with which flag, started when; and a tour through the container. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, test } from 'node:test'
import { execa } from 'execa'
import { until } from '../support.ts'
import { Engine } from './engine.ts'
import { Manager, assertNothingMounted, hostMountRoot, hostMounts, readyLimitMs, type Consumer } from './manager.ts'

let engine: Engine
before(async () => (engine = await Engine.start()))
after(() => engine.stop())
afterEach(async () => {
  await engine.removeContainers()
  await engine.tryDocker(['volume', 'rm', 'litevol'])
})

test('a tour through containers: made, mounted, written by one, read by another, exported under writers, imported, unmounted, deleted', async () => {
  const manager = await Manager.start(engine)
  const { status, body } = await manager.call('POST', '/volumes', { name: 'photos' })
  assert.equal(status, 201)
  const id = String(body['id'])
  const path = await manager.mount(id)
  assert.equal(path, join(hostMountRoot, id))
  assert.deepEqual(hostMounts(), [path])
  assert.equal((await manager.call('GET', `/volumes/${id}`)).body['host_path'], path)

  const first = await manager.keepConsumer('first', `${path}:/data`)
  await first.run('mkdir -p /data/a/b && cp /bin/busybox /data/a/b/ && ln -s b/busybox /data/a/link && echo one >/data/a/file')
  assert.equal(
    await manager.consume(`${path}:/data`, 'cat /data/a/file && cmp /bin/busybox /data/a/link && echo two >/data/a/second'),
    'one',
  )
  assert.equal(await first.run('cat /data/a/second; rm /data/a/second; ls /data/a'), 'two\nb\nfile\nlink')

  await engine.docker(['exec', '-d', 'first', 'sh', '-c', 'exec 3>>/data/log; while :; do date >&3; done'])
  await until('the log grows', async () => (await first.try('test -s /data/log')).exitCode === 0, readyLimitMs)
  const token = `authorization: Bearer a-token-of-the-tests`
  const snapshot = join(engine.folder, 'snap.sqlite')
  const curl = async (...args: string[]): Promise<string> => (await execa('curl', ['-fsS', '-H', token, ...args], { timeout: readyLimitMs })).stdout // prettier-ignore
  await curl(`http://127.0.0.1:8080/volumes/${id}/export`, '-o', snapshot)
  assert.equal((await execa('sqlite3', [snapshot, 'pragma integrity_check'])).stdout, 'ok')
  const imported = JSON.parse(await curl('-X', 'POST', '-T', snapshot, 'http://127.0.0.1:8080/volumes/import?name=restored')) as { id: string } // prettier-ignore
  const copy = await manager.mount(imported.id)
  assert.equal(await manager.consume(`${copy}:/data`, 'cmp /bin/busybox /data/a/link && cat /data/a/file && test -s /data/log'), 'one')

  const busy = await manager.call('DELETE', `/volumes/${id}/mount`)
  assert.deepEqual([busy.status, busy.body['code']], [409, 'busy'])
  await engine.docker(['rm', '-f', 'first'])
  for (const one of [id, imported.id]) {
    assert.equal((await manager.call('POST', `/volumes/${one}/checkpoint`)).body['wal_frames_remaining'], 0)
    assert.equal((await manager.call('DELETE', `/volumes/${one}/mount`)).status, 204)
  }
  assertNothingMounted()
  assert.ok(!existsSync(path))
  assert.equal((await manager.call('DELETE', `/volumes/${id}`)).status, 204)
  await manager.stop()
})

/** What a consumer binds, and whether it sees the volume: at once, and after litevol's container was started anew (`persist`). */
interface Row {
  readonly binds: 'ROOT' | 'ROOT/ID'
  readonly flag: '' | 'rslave' | 'rshared'
  readonly started: 'before' | 'after'
  readonly sees: boolean
  /** `dead`: whatever it does there is an error. */
  readonly seesAgain: boolean | 'dead'
}

/** docs/containers.md has the same rows. */
const matrix: readonly Row[] = [
  { binds: 'ROOT', flag: 'rslave', started: 'before', sees: true, seesAgain: true },
  { binds: 'ROOT', flag: 'rslave', started: 'after', sees: true, seesAgain: true },
  { binds: 'ROOT', flag: 'rshared', started: 'before', sees: true, seesAgain: true },
  { binds: 'ROOT', flag: 'rshared', started: 'after', sees: true, seesAgain: true },
  { binds: 'ROOT', flag: '', started: 'before', sees: false, seesAgain: false },
  { binds: 'ROOT', flag: '', started: 'after', sees: true, seesAgain: false },
  { binds: 'ROOT/ID', flag: 'rslave', started: 'before', sees: true, seesAgain: false },
  { binds: 'ROOT/ID', flag: 'rslave', started: 'after', sees: true, seesAgain: 'dead' },
  { binds: 'ROOT/ID', flag: '', started: 'before', sees: false, seesAgain: false },
  { binds: 'ROOT/ID', flag: '', started: 'after', sees: true, seesAgain: 'dead' },
]

test('who sees a volume, and who sees it again after a restart of litevol, is as the matrix says', async () => {
  const manager = await Manager.start(engine)
  const id = String((await manager.call('POST', '/volumes', { name: 'seen' })).body['id'])
  const consumers = new Map<Row, Consumer>()
  const start = async (moment: Row['started']): Promise<void> => {
    for (const [at, row] of matrix.entries()) {
      if (row.started !== moment) continue
      const source = row.binds === 'ROOT' ? hostMountRoot : join(hostMountRoot, id)
      const bind = `${source}:/data${row.flag === '' ? '' : `:${row.flag}`}`
      consumers.set(row, await manager.keepConsumer(`row-${String(at)}`, bind))
    }
  }
  const look = async (row: Row): Promise<boolean | 'dead'> => {
    const folder = row.binds === 'ROOT' ? `/data/${id}` : '/data'
    const { exitCode, stdout, stderr } = (await consumers.get(row)?.try(`cat ${folder}/file || ls ${folder}`)) ?? { exitCode: 0, stdout: '', stderr: '' } // prettier-ignore
    if (/not connected/.test(stderr) && exitCode !== 0) return 'dead'
    return stdout === 'here'
  }
  await start('before')
  await manager.mount(id, { persist: true })
  await manager.consume(`${hostMountRoot}/${id}:/data`, 'echo here >/data/file')
  await start('after')
  const seen = async (): Promise<unknown[]> => Promise.all(matrix.map(look))
  const say = (results: unknown[]): string[] => matrix.map(({ binds, flag, started }, at) => `${binds} ${flag} ${started}: ${String(results[at])}`) // prettier-ignore
  assert.deepEqual(say(await seen()), say(matrix.map(({ sees }) => sees)))
  await manager.stop()
  await manager.again()
  assert.deepEqual(hostMounts(), [join(hostMountRoot, id)])
  assert.deepEqual(say(await seen()), say(matrix.map(({ seesAgain }) => seesAgain)))
  // The cure for those that do not: a restart of their own.
  for (const row of matrix) {
    const consumer = consumers.get(row)
    if (row.seesAgain === true || consumer === undefined) continue
    await engine.docker(['restart', '-t', '1', consumer.name])
  }
  assert.deepEqual(say(await seen()), say(matrix.map(() => true)))
  await manager.stop()
  assertNothingMounted()
})

test('a consumer without propagation that starts before the mount writes into an empty directory, and the volume is mounted over it', async () => {
  const manager = await Manager.start(engine)
  const id = String((await manager.call('POST', '/volumes', { name: 'late' })).body['id'])
  const early = await manager.keepConsumer('early', `${hostMountRoot}/${id}:/data`)
  assert.equal(await early.run('ls -A /data; echo lost >/data/file; cat /data/file'), 'lost')
  await manager.mount(id)
  assert.equal(await manager.consume(`${hostMountRoot}/${id}:/data`, 'ls -A /data'), '')
  assert.equal(await early.run('cat /data/file'), 'lost')
  await manager.stop()
  await engine.docker(['rm', '-f', 'early'])
  // What is not litevol's stays: it may be somebody's only copy.
  assert.ok(existsSync(join(hostMountRoot, id, 'file')))
  await execa('rm', ['-r', join(hostMountRoot, id)])
})
