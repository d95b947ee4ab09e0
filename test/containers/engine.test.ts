/** The harness itself: an engine with networks, consumers and a shared host, and nothing left when it has ended. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { listMounts } from '../../src/fuse/mount.ts'
import { until } from '../support.ts'
import { Engine, runFolder } from './engine.ts'
import { consumerImage } from './images.ts'
import { readyLimitMs } from './manager.ts'

test('an engine runs a consumer on a network and publishes a port, also after it was killed, and leaves nothing', async () => {
  const engine = await Engine.start()
  const { folder } = engine
  try {
    const serve = 'echo hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp'
    await engine.docker(['run', '-d', '--init', '--restart', 'always', '-p', '127.0.0.1:8080:80', consumerImage, 'sh', '-c', serve])
    // The proxy of the port accepts before httpd listens.
    const get = async (): Promise<string> => (await fetch('http://127.0.0.1:8080')).text()
    await until('httpd answers', async () => (await get().catch(() => '')) === 'hello\n', readyLimitMs)
    await engine.killDaemon()
    await engine.startDaemon()
    assert.notEqual(await engine.docker(['ps', '-q']), '')
    const failed = await engine.tryDocker(['run', '--rm', consumerImage, 'sh', '-c', 'echo no >&2; exit 3'])
    assert.deepEqual({ exitCode: failed.exitCode, stderr: failed.stderr }, { exitCode: 3, stderr: 'no' })
    await assert.rejects(engine.docker(['run', '--rm', consumerImage, 'false']))
  } finally {
    await engine.stop()
  }
  assert.ok(!existsSync(folder))
  assert.deepEqual(listMounts().filter(({ mountpoint }) => mountpoint.startsWith(runFolder())), []) // prettier-ignore
  const next = await Engine.start()
  try {
    assert.equal(await next.docker(['ps', '-aq']), '')
  } finally {
    await next.stop()
  }
})
