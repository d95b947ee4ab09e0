/** A real mount on /dev/fuse: a filesystem in memory served by a child, used by this process. */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, existsSync, readlinkSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { release } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { opcodes } from '../../src/fuse/constants.ts'
import { hasMount, setDirtyLimit } from '../../src/fuse/index.ts'
import { abortConnection, deviceNumber, findMount, mountFuse, openFuseDevice, unmountFuse } from '../../src/fuse/mount.ts'
import { seededBytes, until, withFolder } from '../support.ts'
import { noMount, withMount } from './with-mount.ts'

const execute = promisify(execFile)
const [linuxMajor = 0, linuxMinor = 0] = release().split('.').map(Number)
const isAtLeast = (major: number, minor: number): boolean => linuxMajor > major || (linuxMajor === major && linuxMinor >= minor)

/** Reads, looks up and lists the same things again and again; returns what the server was asked for more often than needed. */
async function askedAgain(): Promise<string[]> {
  const again: string[] = []
  await withMount(async ({ mountpoint, finish }) => {
    const file = join(mountpoint, 'f')
    await fs.writeFile(file, 'x')
    for (let i = 0; i < 20; i++) {
      await fs.readFile(file)
      await fs.stat(join(mountpoint, 'absent')).catch(() => undefined)
      await fs.readdir(mountpoint)
    }
    const { counts } = await finish()
    const count = (...of: readonly number[]): number => of.reduce((sum, opcode) => sum + (counts[opcode] ?? 0), 0)
    assert.deepEqual([count(opcodes.FLUSH), count(opcodes.OPENDIR)], [1, 1])
    const most = [['LOOKUPs', count(opcodes.LOOKUP), 3], ['READs', count(opcodes.READ), 1], ['READDIRs', count(opcodes.READDIR, opcodes.READDIRPLUS), 4]] as const // prettier-ignore
    for (const [name, asked, needed] of most) if (asked > needed) again.push(`${String(asked)} ${name}`)
  })
  return again
}

describe('session', { skip: noMount, concurrency: true }, () => {
  it('negotiates all that it wants on this kernel', { skip: isAtLeast(6, 9) ? false : 'resend needs Linux 6.9' }, () =>
    withMount(async ({ negotiated }) => {
      const expected = [
        'ASYNC_READ',
        'ATOMIC_O_TRUNC',
        'EXPORT_SUPPORT',
        'BIG_WRITES',
        'DONT_MASK',
        'DO_READDIRPLUS',
        'READDIRPLUS_AUTO',
        'ASYNC_DIO',
        'WRITEBACK_CACHE',
      ]
      const more = [
        'PARALLEL_DIROPS',
        'POSIX_ACL',
        'MAX_PAGES',
        'CACHE_SYMLINKS',
        'NO_OPENDIR_SUPPORT',
        'HANDLE_KILLPRIV_V2',
        'SETXATTR_EXT',
        'INIT_EXT',
        'HAS_RESEND',
      ]
      assert.deepEqual(negotiated.flags, [...expected, ...more])
      assert.deepEqual({ maxWrite: negotiated.maxWrite, hasResend: negotiated.hasResend }, { maxWrite: 1048576, hasResend: true })
      assert.match(negotiated.kernel, /^7\.\d+$/)
      if (isAtLeast(6, 18)) assert.ok(Number(negotiated.kernel.slice(2)) >= 45)
    }),
  )

  it('writes and reads content, also past a truncation', () =>
    withMount(async ({ mountpoint }) => {
      const file = join(mountpoint, 'f')
      const content = Buffer.alloc(5_000_000, 'litevol ')
      await fs.writeFile(file, content)
      assert.ok(content.equals(await fs.readFile(file)))
      await fs.truncate(file, 10)
      await fs.appendFile(file, 'end')
      assert.equal(await fs.readFile(file, 'utf8'), 'litevol liend')
      await fs.writeFile(file, 'short')
      assert.equal((await fs.stat(file)).size, 5)
      assert.equal(await fs.readFile(file, 'utf8'), 'short')
    }))

  it('what was written is with the server after an fsync', () =>
    withMount(async ({ mountpoint, finish }) => {
      const handle = await fs.open(join(mountpoint, 'f'), 'w')
      await handle.write(Buffer.alloc(3 << 20))
      await handle.sync()
      await handle.close()
      const { counts } = await finish()
      const writes = counts[opcodes.WRITE] ?? 0
      assert.ok(writes >= 3 && writes <= 8, `${writes} WRITEs for 3 MiB`)
      assert.equal(counts[opcodes.FSYNC], 1)
    }))

  it('makes, renames, links and removes names', () =>
    withMount(async ({ mountpoint }) => {
      const at = (name: string): string => join(mountpoint, name)
      await fs.mkdir(at('d'))
      await fs.writeFile(at('d/f'), 'x')
      await fs.rename(at('d/f'), at('g'))
      await fs.link(at('g'), at('h'))
      assert.equal((await fs.stat(at('g'))).nlink, 2)
      await fs.symlink('a target', at('s'))
      assert.equal(await fs.readlink(at('s')), 'a target')
      await fs.writeFile(at('d/f'), 'y')
      await assert.rejects(fs.rmdir(at('d')), { code: 'ENOTEMPTY' })
      await fs.unlink(at('d/f'))
      await fs.rmdir(at('d'))
      await assert.rejects(fs.stat(at('d')), { code: 'ENOENT' })
      await fs.mkdir(at('d'))
      assert.deepEqual((await fs.readdir(mountpoint)).sort(), ['d', 'g', 'h', 's'])
      await execute('mkfifo', [at('p')])
      assert.ok((await fs.stat(at('p'))).isFIFO())
    }))

  it('lists a directory of 5,000 entries, then forgets what is removed', () =>
    withMount(async ({ mountpoint, finish }) => {
      const names = Array.from({ length: 5000 }, (_, i) => `entry-${String(i).padStart(5, '0')}`)
      for (const name of names) await fs.writeFile(join(mountpoint, name), '')
      assert.deepEqual((await fs.readdir(mountpoint)).sort(), names)
      assert.equal((await fs.readdir(mountpoint, { withFileTypes: true })).filter((entry) => entry.isFile()).length, 5000)
      await Promise.all(names.map((name) => fs.stat(join(mountpoint, name))))
      for (const name of names) await fs.unlink(join(mountpoint, name))
      assert.deepEqual(await fs.readdir(mountpoint), [])
      // The root stays, and a few whose FORGET the kernel had not sent when it was unmounted.
      const { nodes } = await finish()
      assert.ok(nodes < 200, `${nodes} inodes left: lookups were not counted as the kernel counts them`)
    }))

  it('keeps names of any bytes, up to 255 of them', () =>
    withMount(async ({ mountpoint }) => {
      const invalid = Buffer.from([0xff, 0xfe, 0x41, 0x80])
      const longest = Buffer.alloc(255, 'n')
      for (const name of [invalid, longest]) await fs.writeFile(Buffer.concat([Buffer.from(`${mountpoint}/`), name]), 'x')
      const found = await fs.readdir(mountpoint, { encoding: 'buffer' })
      assert.deepEqual(found.map((name) => name.toString('hex')).sort(), [invalid, longest].map((name) => name.toString('hex')).sort())
      // The kernel passes longer names on: to refuse them is the filesystem's matter.
      await assert.rejects(fs.writeFile(join(mountpoint, 'n'.repeat(256)), 'x'), { code: 'ENAMETOOLONG' })
    }))

  it('takes times before 1970 and modes', () =>
    withMount(async ({ mountpoint }) => {
      const file = join(mountpoint, 'f')
      await fs.writeFile(file, 'x')
      await fs.utimes(file, new Date(-100_000), new Date(-3_000)) // a negative number would mean now to Node
      await fs.chmod(file, 0o640)
      const stat = await fs.stat(file, { bigint: true })
      assert.equal(stat.atimeNs, -100_000_000_000n)
      assert.equal(stat.mtimeNs, -3_000_000_000n)
      assert.equal(stat.mode, 0o100640n)
    }))

  it('tells the size of the volume', () =>
    withMount(async ({ mountpoint }) => {
      const { bsize, blocks, bavail, files, ffree } = await fs.statfs(mountpoint)
      assert.deepEqual(
        { bsize, blocks, bavail, files, ffree },
        { bsize: 4096, blocks: 1_000_000, bavail: 500_000, files: 10_000, ffree: 9_000 },
      )
    }))

  it('is asked once for what the kernel may cache', async () => {
    // Other tests drop the caches of the whole machine: one run of a few is without that.
    let again = await askedAgain()
    for (let run = 1; run < 5 && again.length > 0; run++) again = await askedAgain()
    assert.deepEqual(again, [])
  })

  it('takes O_TMPFILE', () =>
    withMount(async ({ mountpoint }) => {
      const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY
      const handle = await fs.open(mountpoint, O_TMPFILE | constants.O_RDWR, 0o600)
      await handle.writeFile('unnamed')
      assert.equal((await handle.stat()).size, 7)
      await handle.close()
      assert.deepEqual(await fs.readdir(mountpoint), [])
    }))

  it('answers EIO and goes on after a fault of the filesystem', () =>
    withMount(
      async ({ mountpoint }) => {
        await assert.rejects(fs.mkdir(join(mountpoint, 'd')), { code: 'EIO' })
        await fs.writeFile(join(mountpoint, 'f'), 'x')
      },
      { fault: 'throw-on-mkdir' },
    ))

  it('ends with 0 after unmount, and unmount of a busy mount is EBUSY', () =>
    withMount(async ({ mountpoint, finish }) => {
      const handle = await fs.open(join(mountpoint, 'f'), 'w')
      await assert.rejects(unmountFuse(mountpoint), { code: 'EBUSY' })
      await handle.close()
      assert.equal((await finish()).exitCode, 0)
      await assert.rejects(unmountFuse(mountpoint), { code: 'EINVAL', problem: 'not_mounted' })
    }))

  it('an aborted connection ends the server and fails the callers', () =>
    withMount(async ({ mountpoint, server }) => {
      server.kill('SIGSTOP')
      const stuck = fs.mkdir(join(mountpoint, 'd'))
      assert.equal(abortConnection(deviceNumber(mountpoint).minor), true)
      await assert.rejects(stuck, { code: /^(ECONNABORTED|ENOTCONN)$/ })
      server.kill('SIGCONT')
    }))

  it('a mount that nobody answers can be found and unmounted lazily', () =>
    withMount(async ({ mountpoint, server }) => {
      server.kill('SIGSTOP')
      await unmountFuse(mountpoint, { lazy: true })
      assert.equal(findMount(mountpoint), undefined)
      server.kill('SIGCONT')
    }))
})

describe('mountFuse', { skip: noMount, concurrency: true }, () => {
  for (const source of ['-o rw', 'a,b=c d', 'line\nbreak', '/vol#1\\x.db', 'none', 'ünï']) {
    it(`shows the source ${JSON.stringify(source)} as given`, () =>
      withMount(
        async ({ mountpoint }) => {
          const { stdout } = await execute('findmnt', ['-J', '-o', 'SOURCE,FSTYPE', mountpoint], { timeout: 60_000 })
          assert.deepEqual(JSON.parse(stdout), { filesystems: [{ source, fstype: 'fuse.litevol' }] })
          assert.equal(findMount(mountpoint)?.source, source)
        },
        { source },
      ))
  }

  it('a source that looks like a tag is shown behind ./', () =>
    withMount(async ({ mountpoint }) => assert.equal(findMount(mountpoint)?.source, './LABEL=x'), { source: 'LABEL=x' }))

  it('says what is wrong with a mountpoint', () => {
    const fd = openFuseDevice()
    const options = { source: 'x', readOnly: true }
    assert.throws(() => mountFuse(fd, { ...options, mountpoint: '/no/such/folder' }), { code: 'ENOENT' })
    assert.throws(() => mountFuse(fd, { ...options, mountpoint: '/etc/passwd' }), { code: 'ENOTDIR' })
  })
})

it(
  'hasMount is true as long as the mount is there, in another mount namespace too, and false as soon as it is not',
  { skip: noMount },
  () =>
    withFolder(async (mountpoint) => {
      const devices: number[] = []
      // Nobody serves it, so nobody may look at it.
      const mount = (): number => {
        const device = openFuseDevice()
        devices.push(device)
        mountFuse(device, { source: 'x', mountpoint, readOnly: false })
        return device
      }
      const unmount = () => execute('umount', ['-i', '-c', '-l', mountpoint], { timeout: 60_000 })
      try {
        const device = mount()
        assert.equal(hasMount(device), true)
        const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sleep', '60'], { stdio: 'ignore' })
        try {
          const namespaceOf = (pid: number | string): string => readlinkSync(`/proc/${String(pid)}/ns/mnt`)
          await until('it has a namespace of its own', () => namespaceOf(holder.pid ?? 0) !== namespaceOf('self'))
          await unmount()
          assert.equal(hasMount(device), true)
        } finally {
          holder.kill('SIGKILL')
        }
        await until('the kernel has ended that namespace', () => !hasMount(device))
        // Other tests make namespaces too, which hold what is mounted then: without one, it is gone when umount(2) has returned.
        const isGoneAtOnce = async (): Promise<boolean> => {
          const next = mount()
          await unmount()
          return !hasMount(next)
        }
        await until('a mount is gone at once', isGoneAtOnce)
      } finally {
        for (const device of devices) closeSync(device) // which ends the connections, so that looking there waits for nobody
        await unmount().catch(() => undefined)
      }
    }),
)

describe('a reading thread', { skip: noMount, concurrency: true }, () => {
  it('reads ahead among large writes, beside small ones, and all are answered', () =>
    withMount(async ({ mountpoint, finish }) => {
      const contents = [1, 2].map((seed) => seededBytes(seed, 40 << 20))
      const done = { is: false }
      const small = async (): Promise<void> => {
        for (let i = 0; !done.is; i++) {
          const name = join(mountpoint, `small-${String(i % 10)}`)
          await fs.writeFile(name, String(i))
          assert.equal(await fs.readFile(name, 'utf8'), String(i))
          await fs.rm(name)
        }
      }
      const large = async (content: Buffer, n: number): Promise<void> => {
        const file = join(mountpoint, `large-${String(n)}`)
        const handle = await fs.open(file, 'w+')
        for (let round = 0; round < 3; round++) {
          await handle.write(content, 0, content.length, 0)
          await handle.sync()
        }
        await handle.close()
        assert.ok(content.equals(await fs.readFile(file)))
      }
      await large(contents[0] ?? Buffer.alloc(0), 0)
      const others = small()
      await Promise.all(contents.map(large))
      done.is = true
      await others
      const { expectations, uses, left, turns } = await finish()
      assert.ok(expectations > 0 && uses === expectations, `${String(expectations)} expected, ${String(uses)} came`)
      assert.equal(left, 0)
      assert.ok(turns > 1, `the event loop turned ${String(turns)} times`)
    }))

  it('ends when the connection is aborted', () =>
    withMount(async ({ mountpoint, server }) => {
      const handle = await fs.open(join(mountpoint, 'f'), 'w')
      await handle.write(seededBytes(3, 40 << 20))
      const synced = handle.sync().catch(() => undefined) // it may be over before
      const exited = once(server, 'exit')
      const { minor } = deviceNumber(mountpoint)
      abortConnection(minor)
      await exited
      assert.equal(server.exitCode, 0)
      await synced
      await handle.close().catch(() => undefined)
    }))
})

describe('setDirtyLimit', { skip: noMount }, () => {
  it('sets the limit of a real mount, or says why not', () =>
    withMount(async ({ mountpoint }) => {
      const device = deviceNumber(mountpoint)
      const sentence = setDirtyLimit({ ...device, mounts: 1, memory: undefined, threshold: 2 ** 30 })
      const ratio = await fs.readFile(`/sys/class/bdi/${device.major}:${device.minor}/max_ratio`, 'utf8')
      if (sentence.startsWith('dirty limit set')) assert.equal(ratio, '20\n')
      else assert.match(sentence, /^dirty limit left at the kernel's default: E/)
      const most = setDirtyLimit({ ...device, mounts: 1, memory: undefined })
      const small = setDirtyLimit({ ...device, mounts: 1, memory: { limit: 64 * 2 ** 20, taken: 0 } }) // less than was its own until now
      if (!sentence.startsWith('dirty limit set')) return
      const hasOwn = existsSync(`/sys/class/bdi/${device.major}:${device.minor}/min_bytes`)
      assert.match(most, hasOwn ? /^dirty limit set to .* MiB of it its own$/ : /^dirty limit set to/)
      assert.match(small, hasOwn ? /^dirty limit set to 16 MiB: .* MiB of it its own$/ : /^dirty limit set to 16 MiB/)
    }))
})
