/** The form of the volume plugin protocol: what an engine sends and what it gets, whatever becomes of mounts. */
import assert from 'node:assert/strict'
import { mkdirSync, renameSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { shell } from '../mount/support.ts'
import { useId, withEngine, withPlugin } from './support.ts'

const limit = { timeout: 120_000 }

test('an engine is told what we are, with no media type and no body; a call we do not know is 404', limit, () =>
  withPlugin(async (engine) => {
    const activated = await engine.call('Plugin.Activate')
    assert.deepEqual([activated.status, activated.body], [200, { Implements: ['VolumeDriver'] }])
    assert.equal(activated.type, 'application/vnd.docker.plugins.v1.2+json')
    assert.deepEqual(await engine.do('Capabilities'), { Capabilities: { Scope: 'local' } })
    assert.deepEqual(await engine.do('List'), { Volumes: [], Err: '' })
    const typed = { 'content-type': 'application/vnd.docker.plugins.v1.1+json' }
    assert.equal((await engine.call('VolumeDriver.List', {}, typed)).status, 200)
    const unknown = await engine.call('NetworkDriver.CreateNetwork', {})
    assert.equal(unknown.status, 404)
    assert.match(String(unknown.body['Err']), /NetworkDriver/)
  }),
)

test('docker volume create, ls, inspect and rm: Get, Create, Get, List, Remove', limit, () =>
  withPlugin(async (engine, service) => {
    assert.match(await engine.refuse('Get', { Name: 'photos' }), /no such volume/)
    await engine.do('Create', { Name: 'photos', Opts: null })
    const id = String((await engine.get('photos')).Status['id'])
    const record = (await service.call('GET', `/volumes/${id}`)).body
    const volume = await engine.get('photos')
    assert.deepEqual([volume.Name, volume.Mountpoint, volume.CreatedAt], ['photos', '', record['created_at']])
    const { size_bytes: sizeBytes, change } = (await service.call('GET', `/volumes/${id}/stat`)).body
    assert.partialDeepStrictEqual(volume.Status, {
      state: 'unmounted',
      encrypted: false,
      size_bytes: sizeBytes,
      change,
      attachments: [],
    })
    assert.ok(Math.abs(Date.now() - Date.parse(String(volume.Status['mtime']))) < 120_000)
    assert.deepEqual(await engine.do('List'), { Volumes: [{ Name: 'photos', Mountpoint: '', CreatedAt: volume.CreatedAt }], Err: '' })
    assert.deepEqual(await engine.do('Path', { Name: 'photos' }), { Mountpoint: '', Err: '' })
    await engine.do('Remove', { Name: 'photos' })
    await engine.do('Remove', { Name: 'photos' }) // the reply of the first may have been lost
    assert.deepEqual(service.volumeFiles(), [])
    assert.equal((await service.call('GET', `/volumes/${id}`)).status, 404)
  }),
)

test('a volume is one to both: made here it is in the API, made there it is here, with its host path', limit, () =>
  withEngine(async ({ engine, roots, folder, start }) => {
    const host = join(folder, 'host')
    mkdirSync(host)
    // What `-v HOST:MOUNT_ROOT:rshared` does; withRoots unmounts both.
    await shell('mount --bind "$1" "$1" && mount --make-rshared "$1" && mount --bind "$1" "$2"', host, roots.mountRoot)
    const service = await start({ LITEVOL_HOST_MOUNT_ROOT: host })
    await engine.do('Create', { Name: 'here', Opts: {} })
    const there = await service.create('there')
    const { body } = await service.call('GET', '/volumes')
    assert.deepEqual((body as unknown as readonly { name: string }[]).map(({ name }) => name), ['here', 'there']) // prettier-ignore
    await engine.do('Create', { Name: 'there', Opts: {} }) // podman creates what it has not seen yet
    assert.equal(await engine.mount('there', useId(1)), join(host, there))
    assert.deepEqual(await engine.do('Path', { Name: 'there' }), { Mountpoint: join(host, there), Err: '' })
    assert.equal((await engine.get('there')).Mountpoint, join(host, there))
    assert.equal(await shell('echo x > "$1/x"; cat "$2/x"', join(roots.mountRoot, there), join(host, there)), 'x\n')
  }),
)

test('options are the fields of the create call', limit, () =>
  withPlugin(async (engine) => {
    await engine.do('Create', { Name: 'mine', Opts: { uid: '1000', gid: '1001', mode: '2750' } })
    assert.equal(await shell('stat -c "%u %g %a" "$1"', await engine.mount('mine', useId(1))), '1000 1001 2750\n')
    await engine.unmount('mine', useId(1))
  }),
)

const wrongOptions: readonly (readonly [string, Readonly<Record<string, string>>, RegExp])[] = [
  ['an unknown key', { uid: '0', colour: 'red' }, /^option 'colour': unknown; there are uid, gid, mode/],
  ['a key of every object', { constructor: 'x' }, /^option 'constructor': unknown/],
  ['a uid that is no number', { uid: 'me' }, /^option 'uid': /],
  ['a uid that is too large', { uid: '4294967295' }, /^option 'uid': /],
  ['a mode that is not octal', { mode: '0999' }, /^option 'mode': /],
  ['a mode that has too many bits', { mode: '17777' }, /mode: must be at most 7777/],
  ['encryption', { encrypted: 'true' }, /not supported/],
]
test('what an option cannot be is refused by its name, and nothing is made', limit, () =>
  withPlugin(async (engine, service) => {
    for (const [what, Opts, message] of wrongOptions) assert.match(await engine.refuse('Create', { Name: 'bad', Opts }), message, what)
    const pinned = await engine.refuse('Create', { Name: 'bad', Opts: { pin: 'hunter2', uid: 'hunter2' } })
    assert.doesNotMatch(pinned + service.output.join('\n'), /hunter2/, 'a value might be a PIN')
    assert.match(await engine.refuse('Create', { Name: 'a/b', Opts: {} }), /^name: /)
    assert.match(await engine.refuse('Create', { Name: '', Opts: {} }), /Name/)
    assert.match(await engine.refuse('Create', { Opts: {} }), /Name/)
    assert.deepEqual(service.volumeFiles(), [])
  }),
)

test('creating what there is: no error without options, refused with options that it may not have', limit, () =>
  withPlugin(async (engine, service) => {
    await engine.do('Create', { Name: 'once', Opts: {} })
    await engine.do('Create', { Name: 'once' })
    assert.match(await engine.refuse('Create', { Name: 'once', Opts: { uid: '5' } }), /the name is taken/)
    assert.equal(service.volumeFiles().length, 1)
  }),
)

test('wrong requests are refused by what is wrong with them', limit, () =>
  withPlugin(async (engine) => {
    await engine.do('Create', { Name: 'a' })
    assert.match(await engine.refuse('Mount', { Name: 'a' }), /ID/)
    assert.match(await engine.refuse('Mount', { Name: 'a', ID: '' }), /ID/)
    assert.match(await engine.refuse('Mount', { Name: 'b', ID: useId(1) }), /volume b: no such volume/)
    assert.match(await engine.refuse('Mount', { Name: 'a', ID: '../x' }), /ID/)
    for (const ID of ['', '../x', '__proto__', 'x'.repeat(300)]) await engine.do('Unmount', { Name: 'a', ID }) // not attached: no error
    assert.match(await engine.refuse('Path', { Name: 'b' }), /no such volume/)
    assert.match(await engine.refuse('Remove', { Name: 'x'.repeat(2 ** 20) }), /too large/)
    assert.match(String((await engine.send('VolumeDriver.Get', '{"Name": "a')).body['Err']), /not valid JSON/)
    assert.match(await engine.refuse('Get', ['a']), /body/)
    assert.match(await engine.refuse('Get'), /Name/)
    await engine.do('Get', { Name: 'a', Later: { engines: 'may say more' } })
  }),
)

test('who sends too much and closes the connection after it reads why, each time', limit, () =>
  withPlugin(async (engine) => {
    for (let n = 0; n < 200; n++) assert.match(await engine.refuse('Remove', { Name: 'x'.repeat(2 ** 20) }), /too large/)
  }),
)

test('who sends too much is told so while it sends, and is listened to afterwards', limit, () =>
  withPlugin(async ({ socket: path }) => {
    const head = (call: string, length: number): string =>
      `POST /VolumeDriver.${call} HTTP/1.1\r\nHost: plugin\r\nContent-Length: ${String(length)}\r\n\r\n`
    const socket = connect(path).setEncoding('utf8')
    try {
      const awaitReply = async (expected: RegExp): Promise<void> => {
        let received = ''
        for await (const piece of socket.iterator({ destroyOnReturn: false })) if (expected.test((received += String(piece)))) return
        assert.fail(`the connection ended after ${JSON.stringify(received)}`)
      }
      socket.write(head('Remove', 2 ** 23))
      await awaitReply(/too large/)
      socket.write('x'.repeat(2 ** 23))
      socket.write(`${head('List', 2)}{}`)
      await awaitReply(/"Volumes":\[\]/)
    } finally {
      socket.destroy()
    }
  }),
)

test('a volume whose file is missing is refused to a container, is not attached then, and can be inspected and removed', limit, () =>
  withPlugin(async (engine, service, folder) => {
    await engine.do('Create', { Name: 'lost' })
    const [file = ''] = service.volumeFiles()
    renameSync(join(service.roots.dataRoot, 'volumes', file), join(folder, file))
    assert.match(await engine.refuse('Mount', { Name: 'lost', ID: useId(1) }), /lost|does not exist/)
    const { Status: status } = await engine.get('lost')
    assert.deepEqual(status['attachments'], [])
    assert.match(String(status['error']), /does not exist/)
    await engine.do('Remove', { Name: 'lost' })
  }),
)
