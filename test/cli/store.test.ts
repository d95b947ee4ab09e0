/** `litevol store log` and `litevol store check` as users run them, while a manager has the store. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, readdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { makeLogger } from '../../src/base/index.ts'
import { JournalStore, type VolumeRecord } from '../../src/manager/index.ts'
import { withFolder } from '../support.ts'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const id = '019430e2-6a40-7c3e-b1f1-0d6f0c9a7b21'
const photos: VolumeRecord = {
  id,
  name: 'photos',
  file: `${id}.litevol`,
  createdAt: '2026-01-01T00:00:00.000Z',
  encrypted: false,
  persist: null,
  attachments: null,
}

function store(folder: string, ...args: readonly string[]) {
  const run = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', main, 'store', ...args], {
    encoding: 'utf8',
    env: { ...process.env, LITEVOL_DATA_ROOT: folder },
    timeout: 60_000,
  })
  return { status: run.status, stdout: run.stdout, stderr: run.stderr }
}

/** A data root whose store, three changes old, a manager has open. */
async function withRoot(work: (folder: string, file: string) => void): Promise<void> {
  await withFolder((folder) => {
    const manager = JournalStore.open(folder, makeLogger('test', 'silent'))
    try {
      const who = 'http 127.0.0.1'
      manager.transact({ who, action: 'create volume photos' }, (draft) => { draft.insert(photos) }) // prettier-ignore
      manager.transact({ who, action: 'remember the mount of volume photos' }, (draft) => { draft.update(id, { persist: { readOnly: true } }) }) // prettier-ignore
      manager.transact({ who: 'manager', action: 'delete volume photos' }, (draft) => { draft.remove(id) }) // prettier-ignore
      work(folder, join(folder, 'volumes.jsonl'))
    } finally {
      manager.close()
    }
  })
}

const time = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g

test('store log prints who did what when, and what became of each volume, while a manager runs', () =>
  withRoot((folder) => {
    const { status, stdout, stderr } = store(folder, 'log')
    assert.deepEqual([status, stderr], [0, ''])
    const record = `{"name":"photos","file":"${id}.litevol","createdAt":"TIME","encrypted":false,"persist":`
    assert.deepEqual(stdout.replaceAll(time, 'TIME').split('\n'), [
      'snapshot 1  TIME  new store (0 volumes)',
      'change 1  TIME  http 127.0.0.1: create volume photos',
      `  + ${id} ${record}null,"attachments":null}`,
      'change 2  TIME  http 127.0.0.1: remember the mount of volume photos',
      `  ~ ${id}`,
      '      persist: null -> {"readOnly":true}',
      'change 3  TIME  manager: delete volume photos',
      `  - ${id} ${record}{"readOnly":true},"attachments":null}`,
      '',
    ])
  }))

test('store log --json prints one object a line, with the patch and the records before and after', () =>
  withRoot((folder) => {
    const { status, stdout } = store(folder, 'log', '--json')
    assert.equal(status, 0)
    const entries = stdout.trimEnd().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>) // prettier-ignore
    assert.equal(entries.length, 4)
    const after = { ...photos, persist: { readOnly: true } }
    const { at, ...second } = entries[2] ?? {}
    assert.match(String(at), time)
    assert.deepEqual(second, {
      kind: 'change',
      seq: 2,
      who: 'http 127.0.0.1',
      action: 'remember the mount of volume photos',
      patch: [{ op: 'replace', path: `/${id}/persist`, value: { readOnly: true } }],
      records: [{ id, before: photos, after }],
    })
  }))

test('store check says what is sound; --data-root wins over the environment', () =>
  withRoot((folder, file) => {
    const bytes = String(readFileSync(file).length)
    const sound = `${file}: sound, 0 volumes (3 changes since snapshot 1, ${bytes} bytes)\n`
    assert.deepEqual(store(folder, 'check'), { status: 0, stdout: sound, stderr: '' })
    assert.deepEqual(store('/nowhere', 'check', '--data-root', folder), { status: 0, stdout: sound, stderr: '' })
  }))

test('a torn last line is told and left as it is', () =>
  withRoot((folder, file) => {
    const whole = readFileSync(file)
    truncateSync(file, whole.length - 10)
    const torn = readFileSync(file)
    for (const command of ['log', 'check']) {
      const { status, stdout, stderr } = store(folder, command)
      assert.equal(status, 0)
      assert.match(stderr, /the last line \(line 4, byte \d+, \d+ bytes\) is not whole/)
      assert.match(stdout, command === 'log' ? /remember/ : /1 volumes \(2 changes/)
      assert.doesNotMatch(stdout, /delete volume/)
    }
    assert.deepEqual(readFileSync(file), torn)
    assert.deepEqual(readdirSync(folder).sort(), ['manager.lock', 'volumes.jsonl'])
  }))

test('damage is exit 1 with file, line and byte, and the file is left as it is', () =>
  withRoot((folder, file) => {
    const damaged = readFileSync(file, 'utf8').replace('remember', 'remembeR')
    writeFileSync(file, damaged)
    const byte = damaged.split('\n').slice(0, 2).join('\n').length + 1
    for (const command of ['log', 'check']) {
      const { status, stdout, stderr } = store(folder, command)
      assert.deepEqual([status, stdout], [1, ''])
      assert.ok(stderr.startsWith(`litevol: store ${file}: damaged at line 3, byte ${String(byte)}: the checksum differs`), stderr)
      assert.equal(stderr.trimEnd().split('\n').length, 1, stderr)
    }
    assert.equal(readFileSync(file, 'utf8'), damaged)
  }))

test('a folder without a store is exit 1, and nothing is made in it', () =>
  withFolder((folder) => {
    const { status, stderr } = store(folder, 'check')
    assert.equal(status, 1)
    assert.match(stderr, /volumes\.jsonl: does not exist/)
    writeFileSync(join(folder, 'volumes.json'), '{"format":1,"volumes":[]}')
    assert.match(store(folder, 'log').stderr, /litevol serve takes .*volumes\.json over/)
    assert.deepEqual(readdirSync(folder), ['volumes.json'])
  }))

for (const [args, message] of [
  [[], /Usage: litevol store/],
  [['frobnicate'], /unknown command 'frobnicate'/],
  [['log', 'x'], /too many arguments/],
  [['check', '--json'], /unknown option '--json'/],
  [['check', '--data-root', 'relative'], /--data-root: 'relative' is wrong, must be an absolute path/],
] as const) {
  test(`litevol store ${args.join(' ')} is exit 2`, () => {
    const { status, stdout, stderr } = store('/nowhere', ...args)
    assert.deepEqual([status, stdout], [2, ''])
    assert.match(stderr, message)
  })
}
