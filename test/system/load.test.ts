import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { checkVolume } from '../../src/engine/index.ts'
import { shell } from '../mount/support.ts'
import { pssOf } from './belongings.ts'
import { withService } from './support.ts'

test('2 GiB in and out by hash, with the FUSE process below 200 MiB', () =>
  withService(async (service) => {
    const id = await service.create('large')
    const mountpoint = await service.mount(id)
    const pid = Number((await service.call('GET', `/volumes/${id}/mount`)).body['pid'])
    const samples: number[] = []
    const timer = setInterval(() => samples.push(pssOf(pid)), 250)
    // Bytes that a key decides, so that nothing of 2 GiB has to lie on the disk twice.
    const script = `gen() { openssl enc -aes-128-ctr -K 0 -iv 0 -in /dev/zero 2>/dev/null | head -c 2147483648; }
      want=$(gen | sha256sum) || true; gen > "$1/big" || true; sync "$1/big"; echo 3 > /proc/sys/vm/drop_caches
      [ "$(sha256sum < "$1/big")" = "$want" ]; stat -c %s "$1/big"`
    const size = await shell(`set +o pipefail; ${script}`, mountpoint)
    clearInterval(timer)
    assert.equal(size, '2147483648\n')
    assert.ok(samples.length > 4)
    assert.ok(Math.max(...samples) < 200, `PSS went up to ${String(Math.max(...samples))} MiB`)
  }))

test('kill -9 of the FUSE process during cp -a is a pause: cp sees no error, and every file is there by hash, after a remount too', () =>
  withService(async (service, folder) => {
    const id = await service.create('killed')
    const mountpoint = await service.mount(id)
    const stop = join(folder, 'stop')
    const copy = shell('while [ ! -e "$2" ]; do rm -rf "$1/doc"; cp -a /usr/share/doc "$1/"; done', mountpoint, stop)
    const killed = new Set<number>()
    for (let isDone = false; !isDone;) {
      const pid = Number((await service.call('GET', `/volumes/${id}/mount`)).body['pid'])
      assert.ok(pid > 1)
      // On a busy machine the successor may not have said yet who it is.
      if (!killed.has(pid)) process.kill(pid, 'SIGKILL')
      killed.add(pid)
      if (killed.size > 1) writeFileSync(stop, '') // the copy that is under way is the last
      isDone = await Promise.race([copy.then(() => true), sleep(1000, false)])
    }
    await copy
    const compare = 'diff -r --no-dereference /usr/share/doc "$1/doc" && echo same'
    assert.equal(await shell(compare, mountpoint), 'same\n')
    const { body } = await service.call('GET', `/volumes/${id}/mount`)
    assert.ok(Number(body['restarts']) > 0)
    await service.call('DELETE', `/volumes/${id}/mount`)
    await service.mount(id)
    assert.equal(await shell(compare, mountpoint), 'same\n')
  }))

test('five volumes are written at once while each is exported: no writer sees an error, every export is whole', () =>
  withService(async (service, folder) => {
    const work = Array.from({ length: 5 }, async (_, n) => {
      const id = await service.create(`v${String(n)}`)
      const mountpoint = await service.mount(id)
      const stop = join(folder, `stop${String(n)}`)
      const script =
        'cd "$1"; i=0; while [ ! -e "$2" ]; do i=$((i+1)); head -c 20000 /dev/urandom > f$((i % 50)); echo "$i" >> log; mkdir d$i; mv f$((i % 50)) d$i/; done; echo "$i"'
      const writer = spawn('bash', ['-euo', 'pipefail', '-c', script, 'bash', mountpoint, stop], { stdio: ['ignore', 'pipe', 'pipe'] })
      const outcome = Promise.all([text(writer.stdout), text(writer.stderr), once(writer, 'exit')])
      for (let round = 0; round < 4 || !existsSync(join(mountpoint, 'd5')); round++)
        await exportAndCheck(service.url, id, join(folder, `export${String(n)}.sqlite`))
      await shell('touch "$1"', stop)
      const [rounds, complaints, exit] = await outcome
      assert.equal((exit as [number])[0], 0, complaints)
      assert.ok(Number(rounds) > 4, `the writer made ${rounds} rounds`)
    })
    await Promise.all(work)
  }))

async function exportAndCheck(url: string, id: string, file: string): Promise<void> {
  await shell('curl -fsS "$1" -o "$2"', `${url}/volumes/${id}/export`, file)
  const connection = new Database(file)
  assert.equal(connection.pragma('integrity_check', { simple: true }), 'ok')
  connection.close()
  // Orphans and all: an export is a moment, so everything but "no operation is under way" holds in it.
  assert.deepEqual(checkVolume(file, { deep: true }), [])
}
