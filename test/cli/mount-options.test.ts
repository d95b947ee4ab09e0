/** The words of -o: which reach mount(8), which are litevol's own, which are dropped, which are refused by name. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseMountOptions } from '../../src/cli/mount-options.ts'
import { ConfigError } from '../../src/config.ts'

const nothing = { isReadOnly: false, isRemount: false, create: false, lowLatency: 'auto', log: undefined, driver: undefined, kernel: [] }

const cases: readonly (readonly [string, Partial<ReturnType<typeof parseMountOptions>>])[] = [
  ['', {}],
  [',,rw,', {}],
  ['ro,noatime,nodev', { isReadOnly: true, kernel: ['noatime', 'nodev'] }],
  ['ro,rw', {}],
  ['rw,ro', { isReadOnly: true }],
  ['nosuid,noexec,relatime,sync,dirsync', { kernel: ['nosuid', 'noexec', 'relatime', 'sync', 'dirsync'] }],
  ['defaults,auto,noauto,user,user=bob,nofail,_netdev,x-systemd.automount,X-mount.mkdir=0755,comment=a b', {}],
  ['create,log=/var/log/a.log,log=b,driver=fuse-native', { create: true, log: 'b', driver: 'fuse-native' }],
  ['low_latency,noatime', { lowLatency: 'on', kernel: ['noatime'] }],
  ['low_latency,nolow_latency', { lowLatency: 'off' }],
  [
    'ro,remount,noatime,user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576',
    { isReadOnly: true, isRemount: true, kernel: ['noatime'] },
  ],
]
for (const [text, wanted] of cases) {
  test(`-o '${text}' is read`, () => {
    assert.deepEqual(parseMountOptions(text, false), { ...nothing, ...wanted })
  })
}

for (const [text, name] of [
  ['ro,frobnicate', 'frobnicate'],
  ['noatime=1', 'noatime=1'],
  ['create=1', 'create=1'],
  ['low_latency=1', 'low_latency=1'],
  ['log=', 'log='],
  ['driver=x', 'driver=x'],
  ['user_id=0', 'user_id=0'],
  ['fd=3', 'fd=3'],
  ['bind', 'bind'],
] as const) {
  test(`-o '${text}' is refused by name, and passed over when sloppy`, () => {
    assert.throws(() => parseMountOptions(text, false), { name: 'ConfigError', message: new RegExp(`'${name}'`) })
    assert.deepEqual(parseMountOptions(`${text},nodev`, true).kernel, ['nodev'])
  })
}

test('an unknown word is a wrong argument', () => {
  assert.throws(() => parseMountOptions('x', false), ConfigError)
})
