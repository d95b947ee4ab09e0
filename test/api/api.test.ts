/** The HTTP face on a real manager, through app.inject. Volumes are not mounted here, so that no test waits for a kernel. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import { buildApp } from '../../src/api/index.ts'
import type { VolumeManager } from '../../src/manager/index.ts'
import { silent, withManagers } from '../manager/support.ts'

interface Fixture {
  readonly app: FastifyInstance
  readonly manager: VolumeManager
  readonly call: (method: InjectOptions['method'], url: string, rest?: InjectOptions) => Promise<LightMyRequestResponse>
}

const checks = [{ name: 'node version', verdict: 'ok' as const, reason: 'v24', cure: '' }]

async function withApp(work: (fixture: Fixture) => Promise<void>, token?: string): Promise<void> {
  await withManagers(async ({ start }) => {
    const manager = start()
    const app = await buildApp({ manager, checks, token, log: silent })
    const call: Fixture['call'] = (method, url, rest = {}) => app.inject({ ...rest, url, ...(method === undefined ? {} : { method }) })
    try {
      await work({ app, manager, call })
    } finally {
      await app.close()
    }
  })
}

/** Asserts an RFC 9457 reply; returns its body. */
function assertProblem(reply: LightMyRequestResponse, status: number, code: string): Record<string, unknown> {
  const body = reply.json<Record<string, unknown>>()
  assert.deepEqual([reply.statusCode, body['status'], body['code']], [status, status, code], reply.body)
  assert.equal(reply.headers['content-type'], 'application/problem+json')
  assert.equal(body['type'], `urn:litevol:problem:${code}`)
  assert.ok(typeof body['title'] === 'string' && typeof body['detail'] === 'string')
  return body
}

const json = { 'content-type': 'application/json' }

test('create, look at, list and delete a volume', () =>
  withApp(async ({ call }) => {
    const created = await call('POST', '/volumes', { payload: { name: 'photos', uid: 1000, gid: 1000, mode: '0750' } })
    assert.equal(created.statusCode, 201)
    const volume = created.json<{ id: string }>()
    const { id } = volume
    assert.equal(created.headers.location, `/volumes/${id}`)
    const expected = {
      name: 'photos',
      encrypted: false,
      mounted: false,
      state: 'unmounted',
      mountpoint: null,
      host_path: null,
      persist: false,
    }
    assert.partialDeepStrictEqual(volume, expected)
    assert.deepEqual((await call('GET', `/volumes/${id}`)).json(), volume)
    assert.deepEqual((await call('GET', '/volumes')).json(), [volume])
    assertProblem(await call('POST', '/volumes', { payload: { name: 'photos' } }), 409, 'name_taken')
    const deleted = await call('DELETE', `/volumes/${id}`)
    assert.deepEqual([deleted.statusCode, deleted.body], [204, ''])
    assertProblem(await call('GET', `/volumes/${id}`), 404, 'not_found')
    assertProblem(await call('DELETE', `/volumes/${id}`), 404, 'not_found')
    assert.deepEqual((await call('GET', '/volumes')).json(), [])
  }))

const wrongBodies: readonly (readonly [string, object | string, number, string, RegExp])[] = [
  ['an unknown field', { name: 'a', colour: 'red' }, 400, 'unknown_field', /'colour'/],
  ['no name', {}, 400, 'invalid', /name/],
  ['a name with a slash', { name: 'a/b' }, 400, 'invalid', /name/],
  ['an empty name', { name: '' }, 400, 'invalid', /name/],
  ['a number for a name', { name: 5 }, 400, 'invalid', /name/],
  ['a text for a uid', { name: 'a', uid: '5' }, 400, 'invalid', /uid/],
  ['a negative gid', { name: 'a', gid: -1 }, 400, 'invalid', /gid/],
  ['a mode that is not octal', { name: 'a', mode: '0789' }, 400, 'invalid', /mode/],
  ['a mode past 7777', { name: 'a', mode: '17777' }, 400, 'invalid', /mode/],
  ['encrypted', { name: 'a', encrypted: true }, 501, 'not_supported', /encrypted/],
  ['a pin', { name: 'a', pin: '1234' }, 501, 'not_supported', /encrypted/],
  ['half of JSON', '{"name":', 400, 'invalid_json', /JSON/],
  ['an array', '[]', 400, 'invalid', /object/],
  ['null', 'null', 400, 'invalid', /object/],
  ['a prototype', '{"__proto__":{},"name":"a"}', 400, 'invalid_json', /./],
]
for (const [what, payload, status, code, detail] of wrongBodies) {
  test(`a create with ${what} is ${String(status)} ${code}, and nothing is made`, () =>
    withApp(async ({ call, manager }) => {
      const reply = await call('POST', '/volumes', { payload, headers: json })
      const problem = assertProblem(reply, status, code)
      assert.match(String(problem['detail']), detail)
      assert.doesNotMatch(reply.body, /1234/, 'a PIN is never told')
      assert.deepEqual(manager.list(), [])
    }))
}

test('an empty body counts as {}, with and without a content type; another type is 415, a large body 413', () =>
  withApp(async ({ call, manager }) => {
    const { id } = manager.create('photos', {}, 'test')
    const url = `/volumes/${id}/checkpoint`
    for (const rest of [{}, { headers: json }, { headers: json, payload: ' \n' }, { headers: json, payload: '{}' }]) {
      assert.deepEqual((await call('POST', url, rest)).json(), { id, wal_frames_checkpointed: 0, wal_frames_remaining: 0 })
    }
    assertProblem(await call('POST', url, { headers: json, payload: '{"x":1}' }), 400, 'unknown_field')
    assertProblem(await call('POST', url, { headers: { 'content-type': 'text/plain' }, payload: 'x' }), 415, 'unsupported_media_type')
    assertProblem(await call('POST', url, { headers: json, payload: ' '.repeat(2 ** 20 + 1) }), 413, 'body_too_large')
    assert.equal((await call('DELETE', `/volumes/${id}`, { headers: json })).statusCode, 204)
  }))

test('what cannot be mounted or unmounted says so', () =>
  withApp(async ({ call, manager }) => {
    const { id } = manager.create('photos', {}, 'test')
    const url = `/volumes/${id}/mount`
    assertProblem(await call('DELETE', url), 404, 'not_mounted')
    assertProblem(await call('DELETE', `${url}?force=true`), 404, 'not_mounted')
    assertProblem(await call('DELETE', `${url}?force=perhaps`), 400, 'invalid')
    assertProblem(await call('DELETE', `${url}?fast=true`), 400, 'unknown_field')
    assertProblem(await call('POST', url, { payload: { driver: 'x' } }), 400, 'invalid')
    assertProblem(await call('POST', url, { payload: { read_only: 'yes' } }), 400, 'invalid')
    const none = {
      mountpoint: null,
      host_path: null,
      ready: false,
      read_only: null,
      driver: null,
      pid: null,
      restarts: null,
      handles: null,
      reason: null,
    }
    assert.deepEqual((await call('GET', url)).json(), { id, mounted: false, state: 'unmounted', ...none })
    for (const method of ['GET', 'POST', 'DELETE'] as const) assertProblem(await call(method, '/volumes/nope/mount'), 404, 'not_found')
    for (const path of ['stat', 'export']) assertProblem(await call('GET', `/volumes/nope/${path}`), 404, 'not_found')
  }))

test('unknown paths are 404, known ones with another method 405 with Allow', () =>
  withApp(async ({ call }) => {
    assertProblem(await call('GET', '/volume'), 404, 'no_route')
    for (const [method, url, allow] of [
      ['PUT', '/volumes', 'GET, HEAD, POST'],
      ['PATCH', '/volumes/x', 'DELETE, GET, HEAD'],
      ['GET', '/volumes/x/checkpoint?a=b', 'POST'],
    ] as const) {
      // prettier-ignore
      const reply = await call(method, url)
      assertProblem(reply, 405, 'method_not_allowed')
      assert.equal(reply.headers.allow, allow)
    }
  }))

test('stat has the change token as its ETag', () =>
  withApp(async ({ call, manager }) => {
    const { id } = manager.create('photos', {}, 'test')
    const reply = await call('GET', `/volumes/${id}/stat`)
    const body = reply.json<{ mtime: number; size_bytes: number; change: number }>()
    assert.ok(Math.abs(body.mtime - Date.now() / 1000) < 60 && body.mtime % 1 !== 0)
    const etag = String(reply.headers.etag)
    assert.match(etag, /^"\d+-[0-9a-z]+"$/)
    const same = await call('GET', `/volumes/${id}/stat`, { headers: { 'if-none-match': `W/${etag}` } })
    assert.deepEqual([same.statusCode, same.body, same.headers.etag], [304, '', etag])
    assert.equal((await call('GET', `/volumes/${id}/stat`, { headers: { 'if-none-match': '"0-0"' } })).statusCode, 200)
  }))

test('an export: whole, by range, conditional, HEAD', () =>
  withApp(async ({ call, manager }) => {
    const { id } = manager.create('photos', {}, 'test')
    const get = (headers: Record<string, string> = {}) => call('GET', `/volumes/${id}/export`, { headers })
    const whole = await get()
    const bytes = whole.rawPayload
    const etag = String(whole.headers.etag)
    assert.equal(bytes.subarray(0, 15).toString(), 'SQLite format 3')
    assert.partialDeepStrictEqual(whole.headers, { 'content-length': String(bytes.length), 'accept-ranges': 'bytes', 'content-type': 'application/vnd.sqlite3', 'content-disposition': 'attachment; filename="photos.sqlite"' }) // prettier-ignore
    const head = await call('HEAD', `/volumes/${id}/export`)
    assert.deepEqual([head.statusCode, head.body, head.headers.etag, head.headers['content-length']], [200, '', etag, String(bytes.length)])
    const parts: readonly (readonly [Record<string, string>, number, number, number])[] = [
      [{ range: 'bytes=0-15' }, 206, 0, 16],
      [{ range: 'bytes=100-' }, 206, 100, bytes.length],
      [{ range: 'bytes=-7' }, 206, bytes.length - 7, bytes.length],
      [{ range: 'bytes=100-', 'if-range': etag }, 206, 100, bytes.length],
      [{ range: 'bytes=100-', 'if-range': '"other"' }, 200, 0, bytes.length],
      [{ range: 'bytes=100-', 'if-range': `W/${etag}` }, 200, 0, bytes.length],
      [{ range: 'bytes=0-1,5-6' }, 200, 0, bytes.length],
    ]
    for (const [headers, status, start, end] of parts) {
      const part = await get(headers)
      assert.equal(part.statusCode, status, JSON.stringify(headers))
      assert.ok(part.rawPayload.equals(bytes.subarray(start, end)), JSON.stringify(headers))
      if (status === 206) assert.equal(part.headers['content-range'], `bytes ${String(start)}-${String(end - 1)}/${String(bytes.length)}`)
    }
    const past = await get({ range: `bytes=${String(bytes.length)}-` })
    assertProblem(past, 416, 'range_not_satisfiable')
    assert.equal(past.headers['content-range'], `bytes */${String(bytes.length)}`)
    const unchanged = await get({ 'if-none-match': etag })
    assert.deepEqual([unchanged.statusCode, unchanged.body, unchanged.headers.etag], [304, '', etag])
  }))

test('with a token nothing but the status of /health is told without it', () =>
  withApp(async ({ call }) => {
    const urls = ['/volumes', '/volumes/x/export', '/openapi.yaml', '/nope']
    const wrong = [undefined, 'Bearer wrong', 'Bearer', 'Basic czNjcmV0', 's3cret', 'Bearer s3cret x']
    for (const url of urls) {
      for (const authorization of wrong) {
        const reply = await call('GET', url, authorization === undefined ? {} : { headers: { authorization } })
        assertProblem(reply, 401, 'unauthorized')
        assert.match(String(reply.headers['www-authenticate']), /^Bearer/)
      }
    }
    assert.deepEqual((await call('GET', '/volumes', { headers: { authorization: 'Bearer s3cret' } })).json(), [])
    assert.deepEqual((await call('GET', '/health')).json(), { status: 'ok' })
    assert.partialDeepStrictEqual((await call('GET', '/health', { headers: { authorization: 'bearer s3cret' } })).json(), {
      status: 'ok',
      checks,
    })
  }, 's3cret'))

test('openapi.yaml names every operation and the service serves it', () =>
  withApp(async ({ app, call }) => {
    const reply = await call('GET', '/openapi.yaml')
    assert.equal(reply.headers['content-type'], 'application/yaml')
    const document = app.swagger() as { paths: Record<string, Record<string, { operationId?: string }>> }
    const operations = Object.values(document.paths).flatMap((path) => Object.values(path).map(({ operationId }) => operationId ?? 'none'))
    assert.deepEqual(operations.sort(), ['checkpointVolume', 'createVolume', 'deleteVolume', 'exportVolume', 'getHealth', 'getMount', 'getVolume', 'importVolume', 'listVolumes', 'mountVolume', 'restartMount', 'statVolume', 'unmountVolume']) // prettier-ignore
  }))
