/** The table of settings: defaults, flags over variables, and one clear line for what is wrong. */
import assert from 'node:assert/strict'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { ConfigError, isLocal, readConfig, readToken, settings } from '../../src/config.ts'
import { withFolder } from '../support.ts'

test('without flags and variables the defaults hold', () => {
  const config = readConfig({})
  assert.deepEqual(
    [config.host, config.port, config.dataRoot, config.mountRoot, config.hostMountRoot, config.logLevel, config.exportLeaseSeconds],
    ['127.0.0.1', 8080, '/var/lib/litevol', '/mnt/litevol', '/mnt/litevol', 'info', 60],
  )
})

test('a flag wins over its variable, an empty variable counts as none', () => {
  const env = { LITEVOL_PORT: '9000', LITEVOL_HOST: '', LITEVOL_MOUNT_ROOT: '/m/', LITEVOL_INSECURE: 'true' }
  const config = readConfig(env, { port: '9001' })
  assert.deepEqual(
    [config.port, config.host, config.mountRoot, config.hostMountRoot, config.insecure],
    [9001, '127.0.0.1', '/m', '/m', true],
  )
})

const wrong: readonly (readonly [string, string, RegExp])[] = [
  ['LITEVOL_PORT', '65536', /a whole number from 0 to 65535/],
  ['LITEVOL_PORT', '80x', /a whole number/],
  ['LITEVOL_PORT', '-1', /a whole number/],
  ['LITEVOL_HOST', 'a b', /an address/],
  ['LITEVOL_SOCKET', 'relative', /an absolute path/],
  ['LITEVOL_DATA_ROOT', './data', /an absolute path/],
  ['LITEVOL_LOG_LEVEL', 'loud', /one of trace, debug, info/],
  ['LITEVOL_DRIVER', 'x', /one of direct, fuse-native/],
  ['LITEVOL_INSECURE', 'yes', /0 or 1/],
  ['LITEVOL_EXPORT_LEASE', '1.5', /a whole number/],
  ['LITEVOL_MOUNT_TIMEOUT', '0', /a number from 0.1/],
  ['LITEVOL_HOST', '0.0.0.0', /LITEVOL_TOKEN_FILE .*LITEVOL_INSECURE=1/],
  ['LITEVOL_MOUNT_ROOT', '/var/lib/litevol/mnt', /apart from LITEVOL_DATA_ROOT/],
]
for (const [name, value, allowed] of wrong) {
  test(`${name}=${value} is refused in one line that names it and what is allowed`, () => {
    assert.throws(
      () => readConfig({ [name]: value }),
      (error: unknown) => {
        assert.ok(error instanceof ConfigError)
        assert.ok(error.message.startsWith(`${name}: '${value}'`), error.message)
        assert.match(error.message, allowed)
        return !error.message.includes('\n')
      },
    )
  })
}

test('a wrong flag is named as a flag', () => {
  assert.throws(() => readConfig({}, { exportWalLimit: 'x' }), /^ConfigError: --export-wal-limit: 'x'/)
  assert.throws(() => readConfig({}, { dataRoot: '' }), /^ConfigError: --data-root: ''/)
})

test('an address that others can reach needs a token file or an explicit word', () => {
  for (const host of ['0.0.0.0', '::', '192.168.1.5', 'example.com', '127.0.0.1.example.com']) {
    assert.throws(() => readConfig({ LITEVOL_HOST: host }), ConfigError, host)
    readConfig({ LITEVOL_HOST: host, LITEVOL_INSECURE: '1' })
    readConfig({ LITEVOL_HOST: host, LITEVOL_TOKEN_FILE: '/token' })
    readConfig({ LITEVOL_HOST: host, LITEVOL_SOCKET: '/run/litevol.sock' })
  }
  for (const host of ['127.0.0.1', '127.9.9.9', '::1', 'localhost']) assert.ok(isLocal({ host, socket: '' }), host)
})

test('a token file must hold one token; one that others can read is told', () =>
  withFolder((folder) => {
    const file = join(folder, 'token')
    assert.throws(() => readToken(file), /LITEVOL_TOKEN_FILE: .*cannot be read/)
    writeFileSync(file, ' \n')
    assert.throws(() => readToken(file), /is empty/)
    writeFileSync(file, 'two tokens\n')
    assert.throws(() => readToken(file), /one token/)
    writeFileSync(file, ' s3cret\n')
    chmodSync(file, 0o644)
    assert.deepEqual(readToken(file), { token: 's3cret', isExposed: true })
    chmodSync(file, 0o600)
    assert.deepEqual(readToken(file), { token: 's3cret', isExposed: false })
  }))

test('every setting has its own variable and flag, and a meaning', () => {
  const rows = Object.values(settings)
  assert.equal(new Set(rows.map(({ env }) => env)).size, rows.length)
  assert.equal(new Set(rows.map(({ flag }) => flag)).size, rows.length)
  for (const { env, flag, meaning } of rows) assert.ok(/^LITEVOL_[A-Z_]+$/.test(env) && /^--[a-z-]+$/.test(flag) && meaning !== '')
})
