/** What is read from /proc and written to /sys: mountinfo, the memory limit, the dirty limit, on files of the test. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { planDirtyLimit, setDirtyLimit } from '../../src/fuse/index.ts'
import { memoryRoom } from '../../src/fuse/memory-limit.ts'
import { abortConnection, deviceNumber, listMounts, parseMountinfo } from '../../src/fuse/mount.ts'

let folder = ''
before(() => void (folder = mkdtempSync(join(tmpdir(), 'litevol-system-'))))
after(() => rmSync(folder, { recursive: true }))

describe('mountinfo', () => {
  it('parses propagation, escapes and device numbers', () => {
    const lines = [
      '36 35 98:0 /sub /mnt\\040two rw,noatime shared:7 master:1 - fuse.litevol -a\\012b\\134c\\043 rw,errors=continue',
      '37 35 0:45 / /x rw - tmpfs none rw',
      '38 35 0:46 / /y rw unbindable - tmpfs none rw',
      'rubbish',
    ]
    const [first, second, third, ...rest] = parseMountinfo(lines.join('\n'))
    assert.deepEqual(first, {
      ...{ mountId: 36, parentId: 35, major: 98, minor: 0, root: '/sub', mountpoint: '/mnt two', propagation: 'shared-slave' },
      ...{ fstype: 'fuse.litevol', source: '-a\nb\\c#', options: ['rw', 'noatime'], superOptions: ['rw', 'errors=continue'] },
    })
    assert.deepEqual([second?.propagation, third?.propagation, rest], ['private', 'unbindable', []])
  })

  it('keeps names that are UTF-8', () => {
    assert.equal(parseMountinfo('1 2 0:3 / /ü€ rw - t s rw')[0]?.mountpoint, '/ü€')
  })

  it('lists the mounts of this process', () => {
    assert.ok(listMounts().some(({ mountpoint }) => mountpoint === '/proc'))
    assert.throws(() => deviceNumber('/no/such/mount'), { code: 'EINVAL', problem: 'not_mounted' })
  })

  it('says so when there is no connection to abort', () => {
    assert.equal(abortConnection(999_999), false)
  })
})

describe('memory limit', () => {
  it('is the one on the way up that leaves least, in v1 and in v2', () => {
    for (const [fstype, superOptions, line, file, stat] of [
      ['cgroup', 'rw,memory', '4:memory:/host/a/b', 'memory.limit_in_bytes', 'cache 5000\nrss 50\ntotal_rss 700\ntotal_shmem 20\n'],
      ['cgroup2', 'rw', '0::/host/a/b', 'memory.max', 'anon 700\nfile 5000\nshmem 20\n'],
    ] as const) {
      const root = join(folder, fstype)
      mkdirSync(join(root, 'a/b'), { recursive: true })
      writeFileSync(join(root, file), fstype === 'cgroup' ? '9223372036854771712\n' : 'max\n')
      writeFileSync(join(root, 'a', file), '1000\n')
      writeFileSync(join(root, 'a/memory.stat'), stat)
      writeFileSync(join(root, 'a/b', file), '900\n')
      writeFileSync(join(root, 'a/b/memory.stat'), stat.replaceAll('700', '70'))
      writeFileSync(join(root, 'mountinfo'), `1 2 0:3 /host ${root} rw - ${fstype} none ${superOptions}\n`)
      writeFileSync(join(root, 'cgroup'), `3:cpu:/\n${line}\n`)
      assert.deepEqual(memoryRoom(root), { limit: 1000, taken: 720 }, fstype)
    }
  })

  it('is undefined where nothing can be read', () => {
    assert.equal(memoryRoom(join(folder, 'absent')), undefined)
  })
})

describe('dirty limit', () => {
  const mount = { major: 0, minor: 77, mounts: 1 }
  const memory = { limit: 64 * 2 ** 20, taken: 0 }
  const bdi = (names: readonly string[]): string => {
    const root = mkdtempSync(join(folder, 'bdi-'))
    mkdirSync(join(root, '0:77'))
    for (const name of names) writeFileSync(join(root, '0:77', name), '')
    return root
  }
  const valueOf = (root: string, name: string): string => readFileSync(join(root, '0:77', name), 'utf8')

  it('is 20 % without a memory limit, strict', () => {
    const bdiRoot = bdi(['max_ratio', 'max_bytes', 'strict_limit', 'read_ahead_kb'])
    const sentence = setDirtyLimit({ ...mount, bdiRoot, memory: undefined, threshold: 1999 * 2 ** 20, readAheadKb: 512 })
    assert.equal(sentence, 'dirty limit set to 20 % of the dirty threshold; read-ahead set to 512 KiB')
    assert.deepEqual(
      ['max_ratio', 'max_bytes', 'strict_limit', 'read_ahead_kb'].map((name) => valueOf(bdiRoot, name)),
      ['20', '', '1', '512'],
    )
  })

  it('is 400 MiB where 20 % are more, also under a large memory limit', () => {
    const threshold = 4000 * 2 ** 20
    for (const room of [undefined, { limit: 2 ** 34, taken: 0 }]) {
      const bdiRoot = bdi(['max_ratio', 'max_bytes', 'strict_limit'])
      const sentence = setDirtyLimit({ ...mount, bdiRoot, memory: room, threshold })
      assert.equal(sentence, 'dirty limit set to 400 MiB: with more, writing back begins later')
      assert.deepEqual([valueOf(bdiRoot, 'max_ratio'), valueOf(bdiRoot, 'max_bytes')], ['', String(400 * 2 ** 20)])
    }
  })

  it('is in part its own: less than all, a tenth of the threshold, divided by the mounts', () => {
    const threshold = 4000 * 2 ** 20
    for (const [mounts, limit, own] of [
      [1, 2 ** 34, 375],
      [4, 2 ** 34, 100],
      [1, 2 ** 28, 60],
    ] as const) {
      const bdiRoot = bdi(['max_ratio', 'max_bytes', 'min_bytes', 'strict_limit'])
      const sentence = setDirtyLimit({ ...mount, mounts, bdiRoot, memory: { limit, taken: 0 }, threshold })
      assert.match(sentence, new RegExp(`, ${String(own)} MiB of it its own$`))
      assert.equal(valueOf(bdiRoot, 'min_bytes'), String(own * 2 ** 20))
    }
  })

  it('shrinks when others take what the memory limit leaves, and grows again', () => {
    const [threshold, limit] = [4000 * 2 ** 20, 4 * 2 ** 30]
    const plan = (taken: number): unknown => planDirtyLimit({ mounts: 1, threshold, memory: { limit, taken } })
    assert.deepEqual(plan(0), { kind: 'bytes', bytes: 400 * 2 ** 20 })
    assert.deepEqual(plan(3 * 2 ** 30), { kind: 'bytes', bytes: 2 ** 28, memory: { limit, taken: 3 * 2 ** 30 } })
    assert.deepEqual(plan(0), { kind: 'bytes', bytes: 400 * 2 ** 20 })
    const unknown = planDirtyLimit({ mounts: 1, threshold: undefined, memory: { limit, taken: 3 * 2 ** 30 } })
    assert.deepEqual(unknown, plan(3 * 2 ** 30))
  })

  it('is a quarter of what the memory limit leaves, divided by the mounts', () => {
    const bdiRoot = bdi(['max_ratio', 'max_bytes', 'strict_limit'])
    const sentence = setDirtyLimit({ ...mount, bdiRoot, mounts: 2, memory: { ...memory, taken: 16 * 2 ** 20 } })
    assert.equal(sentence, 'dirty limit set to 6 MiB: a quarter of what the memory limit of 64 MiB leaves, divided by the mounts')
    assert.equal(valueOf(bdiRoot, 'max_bytes'), String(6 * 2 ** 20))
  })

  it('is the pages of a few requests where the memory limit leaves nothing', () => {
    const bdiRoot = bdi(['max_ratio', 'max_bytes', 'strict_limit'])
    setDirtyLimit({ ...mount, bdiRoot, memory: { limit: 64 * 2 ** 20, taken: 70 * 2 ** 20 } })
    assert.equal(valueOf(bdiRoot, 'max_bytes'), String(4 * 2 ** 20))
  })

  it('stays as it is where a whole percent would be too much', () => {
    const bdiRoot = bdi(['max_ratio', 'strict_limit'])
    assert.match(setDirtyLimit({ ...mount, bdiRoot, memory: { ...memory, taken: memory.limit } }), /too little for a whole percent$/)
    assert.equal(valueOf(bdiRoot, 'max_ratio'), '')
  })

  it('says why nothing was set, and does not throw', () => {
    assert.match(
      setDirtyLimit({ ...mount, bdiRoot: join(folder, 'absent'), memory: undefined }),
      /^dirty limit left at the kernel's default: ENOENT/,
    )
  })
})
