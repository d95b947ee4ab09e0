/** Attachments in the store: what is written, what a reboot ends, what is not begun. Their effect on mounts is in test/plugin. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { ErrnoError } from '../../src/base/index.ts'
import { encodeChange, encodeSnapshot } from '../../src/manager/journal.ts'
import { inspectStore } from '../../src/manager/store-inspection.ts'
import { until, withFolder } from '../support.ts'
import { action, pathOf, put, record, using } from './journal-support.ts'
import { withManagers } from './support.ts'

const limit = { timeout: 60_000 }
const going = new AbortController().signal

test('a store from before attachments is taken over: nobody has anything attached', () =>
  withFolder((folder) => {
    const { attachments: _, ...old } = record(1)
    const header = { schema: 1, generation: 1, at: old.createdAt, why: 'new store', seq: 0 }
    const patch = [{ op: 'replace' as const, path: `/${old.id}/persist`, value: { readOnly: true } }]
    const change = encodeChange({ seq: 1, at: old.createdAt, who: 'test', action: 'test', patch })
    put(folder, Buffer.concat([encodeSnapshot(header, [old]), change]))
    using(folder, (store) => { assert.deepEqual(store.list(), [{ ...record(1), persist: { readOnly: true }, attachments: null }]) }) // prettier-ignore
    assert.match(readFileSync(pathOf(folder), 'utf8'), /"schema":2,"generation":2,.*"why":"migration 1: attachments"/)
  }))

test('an id that an engine cannot have made is refused by the store', () =>
  withFolder((folder) => {
    using(folder, (store) => { store.transact(action, (draft) => { draft.insert(record(1)) }) }) // prettier-ignore
    for (const id of ['', '__proto__', '../x', 'a b', 'x'.repeat(256)]) {
      const since = Object.fromEntries([[id, record(1).createdAt]])
      const attach = (): void => {
        using(folder, (store) => { store.transact(action, (draft) => { draft.update(record(1).id, { attachments: { boot: 'b', ownsMount: true, since } }) }) }) // prettier-ignore
      }
      assert.throws(attach, /attachments/, id)
    }
  }))

test('each attachment is a line of the store with who and what; the same once more is none', limit, () =>
  withManagers(async ({ options, start }) => {
    const manager = start()
    const { id, name } = manager.create('photos', {}, 'test')
    for (const use of ['one', 'two', 'one']) await manager.attach(id, use, going, 'volume plugin')
    for (const use of ['one', 'one', 'two']) await manager.detach(id, use, 'volume plugin')
    await manager.close()
    const actions = inspectStore(options.dataRoot).history.flatMap((entry) =>
      entry.kind === 'change' ? [`${entry.who}: ${entry.action}`] : [],
    )
    assert.deepEqual(actions, [
      `test: create volume ${name}`,
      `volume plugin: attach volume ${name} to one`,
      `volume plugin: attach volume ${name} to two`,
      `volume plugin: detach volume ${name} from one`,
      `volume plugin: detach volume ${name} from two`,
      `volume plugin: forget the attachments of volume ${name}`,
    ])
  }),
)

test('no attachment outlives a boot: the volume is not mounted for it, and can be deleted', limit, () =>
  withManagers(async ({ options, start }) => {
    const first = start()
    const { id } = first.create('photos', {}, 'test')
    await first.attach(id, 'one', going, 'test')
    await first.close()
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    const again = start()
    await again.restore()
    assert.equal(again.get(id).state, 'mounted', 'a restart of the service alone ends none')
    await again.close()
    using(options.dataRoot, (opened) => {
      opened.transact(action, (draft) => {
        const { attachments } = draft.find(id) ?? {}
        assert.equal(attachments?.boot, boot)
        draft.update(id, { attachments: { ...attachments, boot: 'another' } })
      })
    })
    const next = start()
    await next.restore()
    assert.deepEqual([next.get(id).state, next.get(id).attachments], ['unmounted', []])
    await next.delete(id, false, 'test')
  }),
)

test('an attachment that nobody waits for any more is not begun', limit, () =>
  withManagers(async ({ start }) => {
    const manager = start()
    const { id } = manager.create('photos', {}, 'test')
    const gone = AbortSignal.abort(new ErrnoError('ETIMEDOUT', 'gone'))
    await assert.rejects(manager.attach(id, 'one', gone, 'test'), { code: 'ETIMEDOUT' })
    assert.deepEqual([manager.get(id).state, manager.get(id).attachments], ['unmounted', []])
  }),
)

test('an attachment whose mount fails is taken back', limit, () =>
  withManagers(
    async ({ start }) => {
      const manager = start()
      const { id } = manager.create('photos', {}, 'test')
      await assert.rejects(manager.attach(id, 'one', going, 'test'), { problem: 'not_ready' })
      assert.deepEqual(manager.get(id).attachments, [])
      await assert.rejects(manager.detach('01940000-0000-7000-8000-000000000000', 'one', 'test'), { code: 'ENOENT' })
    },
    { mountTimeoutMs: 5 },
  ),
)

test('an attachment whose caller goes while the volume is mounted is taken back, and so is the mount; one of before stays', limit, () =>
  withManagers(async ({ start }) => {
    const manager = start()
    const { id } = manager.create('photos', {}, 'test')
    const abandon = async (use: string, isUnderWay: () => boolean): Promise<void> => {
      const caller = new AbortController()
      const attached = assert.rejects(manager.attach(id, use, caller.signal, 'test'), { code: 'ETIMEDOUT' })
      await until('it is under way', isUnderWay)
      caller.abort(new ErrnoError('ETIMEDOUT', 'gone'))
      await attached
    }
    await abandon('one', () => manager.get(id).state === 'mounting')
    assert.deepEqual([manager.get(id).state, manager.get(id).attachments], ['unmounted', []])
    await manager.attach(id, 'one', going, 'test')
    execFileSync('umount', ['-c', manager.get(id).mountpoint ?? ''])
    await until('unmounted', () => manager.get(id).state === 'unmounted')
    await abandon('one', () => manager.get(id).state === 'mounting')
    assert.deepEqual(manager.get(id).attachments.map((attachment) => attachment.id), ['one']) // prettier-ignore
    await manager.detach(id, 'one', 'test')
    assert.equal(manager.get(id).state, 'unmounted')
  }),
)

test('a removal that nobody waits for any more is not begun', limit, () =>
  withManagers(async ({ start, volumes }) => {
    const manager = start()
    const { id } = manager.create('photos', {}, 'test')
    const caller = new AbortController()
    const before = manager.attach(id, 'one', going, 'test')
    const detached = manager.detach(id, 'one', 'test')
    const removed = assert.rejects(manager.delete(id, false, 'test', caller.signal), { code: 'ETIMEDOUT' })
    caller.abort(new ErrnoError('ETIMEDOUT', 'gone'))
    await Promise.all([before, detached, removed])
    assert.equal(manager.get(id).state, 'unmounted')
    assert.deepEqual(readdirSync(volumes), [`${id}.litevol`])
  }),
)

test('what is left of attachments when somebody else has unmounted is forgotten by an unmount by force', limit, () =>
  withManagers(async ({ start }) => {
    const manager = start()
    const { id } = manager.create('photos', {}, 'test')
    const { mountpoint } = await manager.attach(id, 'one', going, 'test')
    execFileSync('umount', ['-c', mountpoint ?? ''])
    await until('unmounted', () => manager.get(id).state === 'unmounted')
    await assert.rejects(manager.delete(id, false, 'test'), /is attached by one since/)
    await assert.rejects(manager.unmount(id, false, 'test'), { code: 'EBUSY' })
    await manager.unmount(id, true, 'test')
    assert.deepEqual(manager.get(id).attachments, [])
    await assert.rejects(manager.unmount(id, true, 'test'), { problem: 'not_mounted' })
    await manager.delete(id, false, 'test')
  }),
)

test('a mount for attachments that does not end with the last, for a FUSE process that does not answer, ends with the next', limit, () =>
  withManagers(async ({ start }) => {
    const manager = start()
    const { id } = manager.create('photos', {}, 'test')
    await manager.attach(id, 'one', going, 'test')
    const { pid } = await manager.status(id)
    assert.ok(pid !== null)
    process.kill(pid, 'SIGSTOP')
    try {
      await manager.detach(id, 'one', 'test')
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    assert.deepEqual([manager.get(id).state, manager.get(id).attachments], ['mounted', []])
    await manager.attach(id, 'two', going, 'test')
    await manager.detach(id, 'two', 'test')
    assert.equal(manager.get(id).state, 'unmounted')
  }),
)

test('a full disk after a reboot: the service starts, and what was attached before the boot is not', limit, () =>
  withManagers(async ({ options, start }) => {
    const { dataRoot } = options
    mkdirSync(dataRoot)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'litevol-test', dataRoot])
    try {
      const first = start()
      const { id } = first.create('photos', {}, 'test')
      await first.close()
      using(dataRoot, (store) => {
        const since = { one: record(1).createdAt }
        store.transact(action, (draft) => { draft.update(id, { attachments: { boot: 'another', ownsMount: true, since } }) }) // prettier-ignore
        store.transact(action, (draft) => { draft.insert(record(1)) }) // prettier-ignore
        fillDisk(dataRoot)
        // What is left of the last page of the file.
        const flip = (readOnly: boolean): void => { store.transact(action, (draft) => { draft.update(record(1).id, { persist: { readOnly } }) }) } // prettier-ignore
        assert.throws(() => { for (let n = 0; n < 1000; n++) flip(n % 2 === 0) }, { code: 'ENOSPC' }) // prettier-ignore
      })
      const next = start()
      assert.deepEqual([next.get(id).state, next.get(id).attachments], ['unmounted', []])
      await assert.rejects(next.attach(id, 'two', going, 'test'), { code: 'ENOSPC' })
      rmSync(join(dataRoot, 'filler'))
      await next.attach(id, 'two', going, 'test')
      assert.deepEqual(next.get(id).attachments.map((attachment) => attachment.id), ['two']) // prettier-ignore
      await next.detach(id, 'two', 'test')
      assert.equal(next.get(id).state, 'unmounted')
      await next.delete(id, false, 'test')
      await next.close()
    } finally {
      execFileSync('umount', ['-l', dataRoot])
    }
  }),
)

function fillDisk(folder: string): void {
  const file = openSync(join(folder, 'filler'), 'w')
  try {
    assert.throws(() => { for (;;) writeSync(file, Buffer.alloc(4096)) }, { code: 'ENOSPC' }) // prettier-ignore
  } finally {
    closeSync(file)
  }
}
