import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdirSync, readFileSync, statSync, statfsSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { ErrnoError } from '../../src/base/index.ts'
import { Volume, createVolumeFile, settleVolumeFile } from '../../src/engine/index.ts'
import { makeOlder, olderVersions } from '../engine/older-versions.ts'
import { assertClean, makeFile, seededBytes, until, withFolder } from '../support.ts'
import { TestMount, copySnapshot, drivers, mountFile, shell, withMount, withMountOnSmallDisk, type MountChoice } from './support.ts'

const cli = new URL('../../src/cli/main.ts', import.meta.url).pathname

const isBusy = (error: unknown): boolean => error instanceof ErrnoError && error.code === 'EBUSY'

/** A test with a new mounted volume, once for each driver. */
function testBoth(name: string, work: (mount: TestMount, folder: string) => Promise<void>, options: MountChoice = {}): void {
  for (const { driver, skip } of drivers) test(`${name} (${driver})`, { skip }, () => withMount(work, { ...options, driver }))
}

test('a mounted volume is a directory: the ordinary calls work and survive a remount', () =>
  withMount(async (mount, folder) => {
    const script = `cd "$1"; echo one > a; mkdir d; mv a d/b; ln d/b c; ln -s d/b l; cat l; mkfifo p; chmod 600 c; touch -d @-5.5 c
      truncate -s 1G sparse; stat -c '%s %b' sparse; stat -c '%a %h %Y %y' c; ls | tr '\\n' ' '`
    const output = await shell(script, mount.mountpoint)
    assert.match(output, /^one\n1073741824 0\n600 2 -6 1969-12-31 23:59:54\.500000000 .*\nc d l p sparse $/)
    await mount.stop()
    assert.equal(existsSync(`${mount.file}-wal`), false)
    const again = await mountFile(mount.file, join(folder, 'mount'))
    assert.match(await shell('cd "$1"; cat l; stat -c %a c; ls | tr "\\n" " "', again.mountpoint), /^one\n600\nc d l p sparse $/)
    await again.stop()
  }))

for (const version of olderVersions) {
  test(`a volume of version ${String(version)} of the format is mounted, and every byte is there`, () =>
    withFolder(async (folder) => {
      const [file, mountpoint] = [join(folder, 'volume.sqlite'), join(folder, 'mount')]
      mkdirSync(mountpoint)
      createVolumeFile(file)
      const volume = Volume.open(file)
      const content = seededBytes(version, 300_000)
      makeFile(volume, volume.root, 'a', content)
      volume.close()
      makeOlder(file, version)
      const mount = await mountFile(file, mountpoint)
      try {
        assert.ok(readFileSync(join(mountpoint, 'a')).equals(content))
        assert.equal(
          await shell('cp "$1/a" "$1/b"; tail -c +150001 "$1/b" | cmp - <(tail -c +150001 "$1/a") && echo same', mountpoint),
          'same\n',
        )
      } finally {
        await mount.stop()
      }
      assertClean(file)
    }))
}

testBoth(
  'findmnt shows the type, and the file as it was named',
  async (mount) => {
    const line = await shell('findmnt -rn -o FSTYPE,SOURCE "$1"', mount.mountpoint)
    assert.equal(line, 'fuse.litevol ./as-named.sqlite\n')
  },
  { source: './as-named.sqlite' },
)

test('names of invalid UTF-8, with a newline and of 255 bytes work; 256 bytes are ENAMETOOLONG', () =>
  withMount(async (mount) => {
    const script = `cd "$1"; touch $'new\\nline' $'\\xff\\xfe' "$(printf 'x%.0s' {1..255})"; ls | wc -l
      if touch "$(printf 'x%.0s' {1..256})" 2>err; then exit 9; fi; grep -c 'File name too long' err; rm err
      rm $'new\\nline' $'\\xff\\xfe' x*; ls | wc -l`
    assert.equal(await shell(script, mount.mountpoint), '4\n1\n0\n')
  }))

testBoth(
  'a read-only mount answers EROFS',
  async (mount) => {
    assert.match(await shell('touch "$1/a" 2>&1 || true', mount.mountpoint), /Read-only file system/)
  },
  { readOnly: true },
)

testBoth('an unlinked file that is open goes on working, and leaves nothing behind', async (mount) => {
  const script = `cd "$1"; exec 3<>a; echo hidden >&3; rm a; echo more >&3; cat /proc/self/fd/3; truncate -s 3 /proc/self/fd/3; stat -L -c '%h %s' /proc/self/fd/3; ls | wc -l`
  assert.equal(await shell(script, mount.mountpoint), 'hidden\nmore\n0 3\n0\n')
})

testBoth('open handles make unmount EBUSY with their count; force ends them with an error for their holder', async (mount) => {
  const holder = spawn(
    'bash',
    ['-c', 'exec 3>"$1/held"; echo first >&3; echo open; read; truncate -s 0 /proc/self/fd/3', 'bash', mount.mountpoint],
    {
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: 60_000,
    },
  )
  await once(holder.stdout, 'data')
  assert.equal((await mount.call('status', {})).handles, 1)
  await assert.rejects(mount.call('unmount', { force: false }), (error) => isBusy(error) && /1 open handle/.test(String(error)))
  await mount.call('unmount', { force: true })
  assert.equal(await mount.ended(), 0)
  holder.stdin.end('\n')
  const [code] = (await once(holder, 'exit')) as [number]
  assert.notEqual(code, 0)
  const again = await mountFile(mount.file, mount.mountpoint)
  assert.equal(await shell('cat "$1/held"', again.mountpoint), 'first\n')
  await again.stop()
})

testBoth('a snapshot holds what an application wrote into a file that is still open', async (mount, folder) => {
  const writer = spawn('bash', ['-c', 'exec 3>"$1/log"; echo unflushed >&3; echo open; read', 'bash', mount.mountpoint], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(writer.stdout, 'data')
  const copy = await copySnapshot(mount, folder)
  writer.stdin.end('\n')
  await once(writer, 'exit')
  mkdirSync(join(folder, 'other'))
  const other = await mountFile(copy, join(folder, 'other')) // while the original is mounted
  assert.equal(await shell('cat "$1/log"', other.mountpoint), 'unflushed\n')
  await other.stop()
})

testBoth('a snapshot holds what was written into an open file that another mount hides', async (mount, folder) => {
  // printf is the shell's own: a process that it starts would flush the file at its exec.
  const script =
    'mkdir "$1/hidden"; exec 3>"$1/hidden/x"; mount -t tmpfs none "$1/hidden"; echo other > "$1/hidden/x"; printf data >&3; echo open; read'
  const writer = spawn('bash', ['-c', script, 'bash', mount.mountpoint], { stdio: ['pipe', 'pipe', 'inherit'], timeout: 60_000 })
  await once(writer.stdout, 'data')
  const copy = await copySnapshot(mount, folder)
  writer.stdin.end('\n')
  await once(writer, 'exit')
  await shell('umount "$1/hidden"', mount.mountpoint)
  mkdirSync(join(folder, 'other'))
  const other = await mountFile(copy, join(folder, 'other'))
  assert.equal(await shell('cat "$1/hidden/x"', other.mountpoint), 'data')
  await other.stop()
})

testBoth('a snapshot is not kept away by an open file whose path is longer than PATH_MAX', async (mount) => {
  const script =
    'cd "$1"; n=$(printf "d%.0s" {1..250}); for i in {1..20}; do mkdir $n && cd -P $n; done 2>/dev/null; exec 3>x; echo deep >&3; echo open; read'
  const writer = spawn('bash', ['-c', script, 'bash', mount.mountpoint], { stdio: ['pipe', 'pipe', 'inherit'], timeout: 60_000 })
  await once(writer.stdout, 'data')
  const { snapshot } = await mount.call('snapshot-acquire', {})
  await mount.call('snapshot-release', { snapshot })
  writer.stdin.end('\n')
  await once(writer, 'exit')
})

for (const { driver, skip } of drivers) {
  test(`a full disk is ENOSPC: what is there can be read and deleted, and there is room again (${driver})`, { skip }, () =>
    withMountOnSmallDisk(
      '64m',
      async (mount, folder) => {
        const { file, mountpoint } = mount
        const fill =
          'cd "$1"; i=0; while head -c 1M /dev/urandom > f$i 2>/dev/null && sync f$i 2>/dev/null; do sha256sum f$i; i=$((i+1)); [ $i -lt 200 ]; done > "$2"; wc -l < "$2"'
        const sums = join(folder, 'sums')
        const first = Number(await shell(fill, mountpoint, sums))
        assert.ok(first > 5 && first < 64, String(first))
        await shell('cd "$1"; sha256sum --quiet -c "$2"; rm f*; ls | wc -l | grep -qx 0', mountpoint, sums)
        const second = Number(await shell(fill, mountpoint, sums))
        assert.ok(second >= first - 2, `${String(second)} files after deleting, ${String(first)} before`)
        await mount.stop()
        assert.equal(existsSync(`${file}-wal`), false)
      },
      { driver },
    ),
  )
}

/** Writes 20 MiB, then waits until the WAL is empty; returns how many seconds after the last change it was made so, by its own time. */
async function secondsUntilEmpty(file: string, mountpoint: string): Promise<number> {
  const before = await shell('head -c 20M /dev/urandom > "$1/a"; sync "$1/a"; stat -c %.Y "$2-wal"', mountpoint, file)
  // A file that is cut off has its new length before its new time, for as long as ext4 frees its blocks.
  const look = 'size=$(stat -c %s "$1-wal"); time=$(stat -c %.Y "$1-wal"); [ $size = 0 ] && [ $time != $2 ] && { echo $time; exit 0; }'
  return Number(await shell(`for i in $(seq 600); do ${look}; sleep 0.1; done; exit 1`, file, before.trim())) - Number(before)
}

test('an idle volume gives the space of its WAL back, after a while in which it is used again', () =>
  withMount(async ({ file, mountpoint }) => {
    await shell('echo x > "$1/b"', mountpoint)
    const seconds = await secondsUntilEmpty(file, mountpoint)
    const inode = statSync(`${file}-wal`).ino
    await shell('echo y > "$1/b"; sync "$1/b"; test -s "$2-wal"', mountpoint, file)
    assert.equal(statSync(`${file}-wal`).ino, inode)
    const { bavail, bsize } = statfsSync(dirname(file))
    const isRoomy = bavail * bsize > 2 ** 31
    // Another test that drops the page cache may shorten it, but not to the two seconds of a volume without room.
    assert.ok(!isRoomy || seconds > 3, `the WAL was emptied after ${String(seconds)} s already`)
  }))

test('an idle volume on a disk with little room gives the space of its WAL back at once', () =>
  withMountOnSmallDisk('256m', async ({ file, mountpoint }) => {
    const seconds = await secondsUntilEmpty(file, mountpoint)
    assert.ok(seconds < 19, `the WAL was emptied after ${String(seconds)} s only`)
  }))

testBoth('umount by hand ends the process with 0 and leaves one file', async (mount) => {
  await shell('echo x > "$1/a"; umount "$1"', mount.mountpoint)
  assert.equal(await mount.ended(), 0)
  assert.ok(mount.events.some(({ type }) => type === 'unmounted'))
  assert.equal(existsSync(`${mount.file}-wal`), false)
})

test('a process whose starter is gone unmounts and ends', () =>
  withFolder(async (folder) => {
    const [file, mountpoint] = [join(folder, 'volume.sqlite'), join(folder, 'mount')]
    createVolumeFile(file)
    mkdirSync(mountpoint)
    const starter = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', cli, 'mount', file, mountpoint], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, LITEVOL_RUN_DIR: join(folder, 'run') },
    })
    await once(starter.stderr, 'data') // "mounted …"
    await shell('echo x > "$1/a"', mountpoint)
    starter.kill('SIGKILL')
    await shell('while findmnt -rn "$1" || test -e "$2-wal"; do sleep 0.02; done; while test -n "$(ls "$3")"; do sleep 0.02; done', mountpoint, file, join(folder, 'run')) // prettier-ignore
    assertClean(file)
  }))

test('a volume file that is longer or shorter than its header says is not mounted: the byte is named, and nothing is changed', () =>
  withFolder(async (folder) => {
    const [file, mountpoint] = [join(folder, 'volume.sqlite'), join(folder, 'mount')]
    mkdirSync(mountpoint)
    createVolumeFile(file)
    const whole = readFileSync(file)
    for (const wrong of [whole.length + 4096, whole.length - 4096]) {
      truncateSync(file, wrong)
      const before = readFileSync(file)
      const { error } = await new TestMount(file, mountpoint).event('failed')
      assert.ok(error.message.includes(`byte ${String(Math.min(wrong, whole.length))}`), error.message)
      assert.ok(readFileSync(file).equals(before) && !existsSync(`${file}-wal`))
      writeFileSync(file, whole)
    }
    const { error } = await new TestMount(folder, mountpoint).event('failed')
    assert.ok(error.message.startsWith(`volume file ${folder}: `), error.message)
  }))

testBoth(
  "a process has SQLite's locks on its file: another SQLite that reads it leaves the WAL, and what was synced survives a kill",
  async (mount) => {
    const { file, mountpoint } = mount
    // proc_locks(5): of each lock its kind, the process, and the file as major:minor:inode
    const held = new RegExp(`POSIX .* ${String(mount.pid)} [0-9a-f]+:[0-9a-f]+:${String(statSync(file).ino)} `)
    assert.match(readFileSync('/proc/locks', 'utf8'), held)
    await shell('sqlite3 "$1" "SELECT count(*) FROM inodes"', file)
    assert.ok(existsSync(`${file}-wal`))
    await shell('for i in 1 2 3; do echo $i > "$1/$i"; sync "$1/$i"; done', mountpoint)
    process.kill(mount.pid, 'SIGKILL')
    assert.equal(await mount.ended(), 128 + 9)
    await shell('umount -l "$1"', mountpoint)
    const again = await mountFile(file, mountpoint)
    assert.equal(await shell('cd "$1"; cat 1 2 3 | tr "\\n" " "', mountpoint), '1 2 3 ')
    await again.stop()
  },
)

test('a second mount of a served file is refused with who holds it', () =>
  withMount(async (mount, folder) => {
    mkdirSync(join(folder, 'second'))
    const second = new TestMount(mount.file, join(folder, 'second'))
    const { error } = await second.event('failed')
    assert.equal(error.problem, 'held')
    assert.ok(error.message.includes(String(mount.pid)), error.message)
    assert.equal(await second.ended(), 1)
  }))

testBoth('an opener waits for an owner that is finishing', async (mount, folder) => {
  await shell('head -c 50M /dev/urandom > "$1/big"', mount.mountpoint)
  mkdirSync(join(folder, 'next'))
  await shell('umount "$1"', mount.mountpoint)
  const next = await mountFile(mount.file, join(folder, 'next'))
  await next.stop()
  assert.equal(await mount.ended(), 0)
})

for (const { driver, skip } of drivers) {
  test(`what was acknowledged before a kill -9 is there after recovery (${driver})`, { skip }, () =>
    withFolder(async (folder) => {
      const file = join(folder, 'v.sqlite')
      const mountpoint = join(folder, 'm')
      createVolumeFile(file)
      mkdirSync(mountpoint)
      const mount = await mountFile(file, mountpoint, { driver })
      await shell('cd "$1"; for i in {1..200}; do echo "content $i" > "f$i"; done', mountpoint)
      process.kill(mount.pid, 'SIGKILL')
      assert.equal(await mount.ended(), 128 + 9)
      await shell('umount -l "$1"', mountpoint)
      copyFileSync(`${file}-wal`, join(folder, 'wal-was-here'))
      await settleVolumeFile(file, { ownerTimeoutMs: 10_000 })
      assertClean(file)
      const again = await mountFile(file, mountpoint)
      assert.equal(await shell('cd "$1"; for i in {1..200}; do [ "$(cat "f$i")" = "content $i" ]; done; ls | wc -l', mountpoint), '200\n')
      await again.stop()
    }),
  )
}

testBoth('fsync reaches the disk: strace sees the WAL synced', async (mount, folder) => {
  const trace = join(folder, 'trace')
  const strace = spawn('strace', ['-f', '-y', '-e', 'trace=fsync,fdatasync', '-o', trace, '-p', String(mount.pid)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  await once(strace.stderr, 'data') // "attached"
  await shell('echo durable > "$1/a"; sync "$1/a"; sync "$1/a"; sync "$1"', mount.mountpoint)
  strace.kill('SIGINT')
  await once(strace, 'exit')
  const calls = (await shell('cat "$1"', trace)).match(/fdatasync\(\d+<[^>]*volume\.sqlite-wal>/g)
  assert.equal(calls?.length, 1, 'the second time, and for the directory, it was there already')
})

test('large writes start helpers, with which the bytes are the same and the process ends as before', () =>
  withMount(async (mount) => {
    const threads = async (): Promise<number> => Number(await shell('ls "/proc/$1/task" | wc -l', String(mount.pid)))
    const before = await threads()
    const content = seededBytes(77, 100 << 20)
    writeFileSync(join(mount.mountpoint, 'large'), content)
    await shell('sync "$1/large"', mount.mountpoint)
    await until('the helpers are there', async () => (await threads()) > before)
    writeFileSync(join(mount.mountpoint, 'larger'), content.subarray(12_345))
    await shell('sync "$1/larger"; echo 1 > /proc/sys/vm/drop_caches', mount.mountpoint)
    assert.ok(readFileSync(join(mount.mountpoint, 'larger')).equals(content.subarray(12_345)))
    assert.ok(readFileSync(join(mount.mountpoint, 'large')).equals(content))
  }))
