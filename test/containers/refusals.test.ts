/** A container with a flag missing or wrong does not start: preflight names the flag. And the least rights that do suffice. */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, readdirSync } from 'node:fs'
import { after, afterEach, before, test } from 'node:test'
import { execa } from 'execa'
import { Engine } from './engine.ts'
import { litevolImage } from './images.ts'
import { Manager, assertNothingMounted, hostMountRoot, leastRights, managerFlags, type ManagerChoice } from './manager.ts'

let engine: Engine
before(async () => (engine = await Engine.start()))
after(() => engine.stop())
afterEach(async () => {
  await engine.removeContainers()
  await engine.tryDocker(['volume', 'rm', 'litevol'])
})

const bind = (flag: string): string => `${hostMountRoot}:/mnt${flag}`
const without = (...words: readonly string[]): readonly string[] => leastRights.filter((_, at, all) => !words.includes(all[at] ?? '') && !words.includes(all[at - 1] ?? '')) // prettier-ignore
const shared = /give the container -v \/mnt\/litevol:\/mnt:rshared/

/** What is missing, what preflight says of it, and the flag that it tells to add. */
const refusals: readonly (readonly [string, ManagerChoice, string, RegExp, RegExp])[] = [
  ['nothing is bound at the mount root', { bind: '' }, 'mount root', /nothing of the host is bound there/, shared],
  ['the mount root is bound without propagation', { bind: bind('') }, 'mount root', /without propagation/, shared],
  ['the mount root is bound with rslave, the wrong side', { bind: bind(':rslave') }, 'mount root', /slave of the host's/, shared],
  ['/dev/fuse is missing', { rights: without('--device') }, '/dev/fuse', /not there/, /--device \/dev\/fuse/],
  ['CAP_SYS_ADMIN is missing', { rights: without('--cap-add') }, 'CAP_SYS_ADMIN', /may not mount/, /--cap-add SYS_ADMIN/],
]

interface Verdict {
  readonly name: string
  readonly verdict: string
  readonly reason: string
  readonly cure: string
}

/** Runs litevol so that it must fail; returns its failed checks. */
async function refused(choice: ManagerChoice): Promise<Verdict[]> {
  const run = ['run', '--name', 'litevol', ...managerFlags(engine, choice), litevolImage]
  const { exitCode, stderr } = await engine.tryDocker(run)
  assert.equal(exitCode, 1, stderr)
  return checksOf(stderr.split('\n')).filter(({ verdict }) => verdict === 'fail')
}

function checksOf(lines: readonly string[]): Verdict[] {
  const logged = lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as { check?: Verdict })
  return logged.flatMap(({ check }) => (check === undefined ? [] : [check]))
}

for (const [what, choice, name, reason, cure] of refusals) {
  test(`where ${what}, the start is refused with the flag to add`, async () => {
    const failed = await refused(choice)
    assert.deepEqual(failed.map((check) => check.name), [name], JSON.stringify(failed)) // prettier-ignore
    assert.match(failed[0]?.reason ?? '', reason)
    assert.match(failed[0]?.cure ?? '', cure)
    assertNothingMounted()
    assert.deepEqual(readdirSync(hostMountRoot), [])
  })
}

test('a mount root that is shared in the container only is found by a test mount, and the cure is for the host', async () => {
  // What podman makes of :rshared on a folder that is no shared mount. Docker refuses that; here the container does it to itself.
  const alone = 'mount --make-private /mnt && mount --make-shared /mnt && exec litevol serve'
  const flags = [...managerFlags(engine), '--entrypoint', 'sh']
  const { exitCode, stderr } = await engine.tryDocker(['run', '--name', 'litevol', ...flags, litevolImage, '-c', alone])
  assert.equal(exitCode, 1, stderr)
  const failed = checksOf(stderr.split('\n')).filter(({ verdict }) => verdict === 'fail')
  assert.deepEqual(failed.map((check) => check.name), ['mount root']) // prettier-ignore
  assert.match(failed[0]?.reason ?? '', /a test mount in it reached nobody/)
  assert.match(failed[0]?.cure ?? '', /^on the host: mount --bind \/mnt\/litevol \/mnt\/litevol && mount --make-rshared \/mnt\/litevol/)
})

test('a host folder that is no shared mount is refused by Docker, and works after the commands of README', async () => {
  const [disk, folder] = ['/mnt/apart', '/mnt/apart/litevol']
  mkdirSync(disk)
  await execa('mount', ['-t', 'tmpfs', 'litevol-test', disk])
  await execa('mount', ['--make-private', disk])
  mkdirSync(folder)
  try {
    const choice: ManagerChoice = { bind: `${folder}:/mnt:rshared`, flags: ['-e', `LITEVOL_HOST_MOUNT_ROOT=${folder}`] }
    const { exitCode, stderr } = await engine.tryDocker(['run', '--name', 'litevol', ...managerFlags(engine, choice), litevolImage])
    assert.equal(exitCode, 125)
    assert.match(stderr, /not a shared mount/)
    await engine.docker(['rm', '-f', 'litevol'])
    await execa('sh', ['-c', 'mount --bind "$1" "$1" && mount --make-rshared "$1"', 'sh', folder])
    const manager = await Manager.start(engine, choice)
    const id = await manager.provide('apart')
    assert.equal(await manager.consume(`${folder}/${id}:/data`, 'echo x >/data/x; cat /data/x'), 'x')
    await manager.stop()
  } finally {
    await engine.tryDocker(['rm', '-f', 'litevol'])
    await execa('umount', ['-R', '-l', disk], { reject: false })
  }
})

test('another folder than the one that is named as the mount root of the host is a warning, with the folder', async () => {
  mkdirSync('/mnt/other', { recursive: true })
  const manager = await Manager.start(engine, { bind: '/mnt/other:/mnt:rshared' })
  const check = checksOf(await engine.logs('litevol')).find(({ name }) => name === 'mount root')
  assert.equal(check?.verdict, 'warn')
  assert.match(check.reason, /\/other is bound there: host_path in replies is wrong/)
  assert.match(check.cure, /LITEVOL_HOST_MOUNT_ROOT/)
  await manager.stop()
})

const limit = '/sys/devices/virtual/bdi'

for (const isWritable of [false, true]) {
  test(`without --privileged everything works; the dirty limit is ${isWritable ? 'raised where its folder is bound' : 'lost, which preflight says'}`, async () => {
    const manager = await Manager.start(engine, isWritable ? { flags: ['-v', `${limit}:${limit}`] } : {})
    const checks = checksOf(await engine.logs('litevol'))
    const warned = checks.filter(({ verdict }) => verdict !== 'ok')
    if (isWritable) assert.deepEqual(warned, [])
    else {
      assert.deepEqual(warned.map(({ name }) => name), ['dirty limit']) // prettier-ignore
      assert.match(warned[0]?.cure ?? '', /-v \/sys\/devices\/virtual\/bdi:\/sys\/devices\/virtual\/bdi/)
    }
    const id = await manager.provide('plain')
    assert.equal(await manager.consume(`${hostMountRoot}/${id}:/data`, 'dd if=/dev/zero of=/data/x bs=1M count=8 2>/dev/null; wc -c </data/x'), '8388608') // prettier-ignore
    const device = (await manager.inside(`awk '$5 == "/mnt/${id}" { print $3 }' /proc/self/mountinfo`)).trim()
    assert.equal(Number(readFileSync(`${limit}/${device}/max_ratio`, 'utf8')) > 1, isWritable)
    // A forced unmount reaches into other containers without more rights.
    const consumer = await manager.keepConsumer('plain', `${hostMountRoot}/${id}:/data`)
    await engine.docker(['exec', '-d', 'plain', 'sh', '-c', 'exec sleep 1000 >/data/open'])
    assert.equal((await manager.call('DELETE', `/volumes/${id}/mount?force=true`)).status, 204)
    assert.match((await consumer.try('ls /data')).stderr, /not connected/)
    await engine.docker(['rm', '-f', 'plain'])
    await manager.stop()
    assertNothingMounted()
  })
}
