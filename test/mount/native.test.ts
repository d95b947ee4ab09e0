/** What is particular to the driver fuse-native, on real mounts. What both drivers do is in process.test.ts and the POSIX table. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readlinkSync, realpathSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Volume, createVolumeFile } from '../../src/engine/index.ts'
import { names, withFolder } from '../support.ts'
import { copySnapshot, drivers, mountFile, shell, withMount, type TestMount } from './support.ts'

const driver = 'fuse-native'
const skip = drivers.find((row) => row.driver === driver)?.skip ?? false
const litevol = fileURLToPath(new URL('../../bin/litevol', import.meta.url))

const withNative = (work: (mount: TestMount, folder: string) => Promise<void>, options = {}): Promise<void> =>
  withMount(work, { driver, ...options })

describe('the driver fuse-native', { skip }, () => {
  test('serves a directory with its ordinary calls, which the other driver finds again', () =>
    withNative(async (mount) => {
      const script = `cd "$1"; echo one > a; mkdir d; mv a d/b; ln d/b c; ln -s d/b l; cat l; mkfifo p; chmod 600 c; touch -d @1000.5 c
      truncate -s 1G sparse; stat -c '%s %b' sparse; stat -c '%a %h %y' c; setfattr -n user.x -v y c; ls | tr '\\n' ' '`
      const output = await shell(script, mount.mountpoint)
      assert.equal(output, 'one\n1073741824 0\n600 2 1970-01-01 00:16:40.500000000 +0000\nc d l p sparse ')
      await mount.stop()
      const again = await mountFile(mount.file, mount.mountpoint)
      const look = 'cd "$1"; cat l; stat -c "%a %y" c; getfattr --only-values -n user.x c; ls | tr "\\n" " "'
      assert.equal(await shell(look, again.mountpoint), 'one\n600 1970-01-01 00:16:40.500000000 +0000\nyc d l p sparse ')
      await again.stop()
    }))

  test('sets both times, each its own', () =>
    withNative(async ({ mountpoint }) => {
      const script = `touch "$1/f"; python3 -c 'import os, sys; os.utime(sys.argv[1], (100.25, 2000000000.75))' "$1/f"; stat -c '%.X %.Y' "$1/f"`
      assert.equal(await shell(script, mountpoint), '100.250000000 2000000000.750000000\n')
    }))

  test('each name of a file shows its inode number, links and what another name did to it', () =>
    withNative(async ({ mountpoint }) => {
      const script = `cd "$1"; echo x > a; ln a b; stat -c '%i %h' a b | uniq | wc -l; echo more >> b; stat -c '%s' a; cat a; rm b; stat -c %h a`
      assert.equal(await shell(script, mountpoint), '1\n7\nx\nmore\n1\n')
    }))

  test('an extended attribute that does not fit its buffer is ERANGE, and its size can be asked for', () =>
    withNative(async ({ mountpoint }) => {
      const script = `touch "$1/f"; setfattr -n user.long -v "$(printf 'x%.0s' {1..1000})" "$1/f"; exec python3 - "$1/f" <<'P'
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
path = sys.argv[1].encode()
for call in (lambda b, n: libc.getxattr(path, b'user.long', b, n), lambda b, n: libc.listxattr(path, b, n)):
    size = call(None, 0)
    room = ctypes.create_string_buffer(size)
    short = call(room, size - 1)
    print(size, short, errno.errorcode[ctypes.get_errno()], call(room, size))
P`
      assert.equal(await shell(script, mountpoint), '1000 -1 ERANGE 1000\n10 -1 ERANGE 10\n')
    }))

  test('names that are not UTF-8 are refused, and shown where the other driver has made them', () =>
    withMount(async (mount) => {
      await shell(`cd "$1"; echo x > $'\\xff'; ln -s $'\\xfe' link`, mount.mountpoint)
      await mount.stop()
      const native = await mountFile(mount.file, mount.mountpoint, { driver })
      const script = `cd "$1"; ls | wc -l; for c in "touch new-$(printf '\\xff')" "cat $(printf '\\xff')" "readlink -v link"; do ($c 2>&1 || true) | grep -ac 'Invalid or incomplete multibyte'; done`
      assert.equal(await shell(script, native.mountpoint), '2\n1\n1\n1\n')
      await native.stop()
    }))

  test('an unlinked file that is open goes on through a rename of its directory, and its space comes back', () =>
    withNative(async ({ mountpoint }) => {
      const script = `cd "$1"; mkdir d; exec 3<>d/f; head -c 3M /dev/urandom >&3; rm d/f; mv d e; ls -A e | wc -l; echo end >&3
      tail -c 4 /proc/self/fd/3; exec 3>&-; rmdir e; ls -A | wc -l`
      assert.equal(await shell(script, mountpoint), '0\nend\n0\n')
    }))

  test('a file that is replaced again and again while it is open is in every snapshot', () =>
    withNative(async (mount, folder) => {
      const script = 'cd "$1"; echo 0 > f; echo begun; for i in {1..200}; do exec 3<f; echo $i > g; mv g f; exec 3<&-; done'
      const writer = spawn('bash', ['-euc', script, 'bash', mount.mountpoint], { stdio: ['ignore', 'pipe', 'inherit'], timeout: 100_000 })
      const ended = once(writer, 'exit')
      await once(writer.stdout, 'data')
      const found: string[][] = []
      while (writer.exitCode === null && writer.signalCode === null) {
        const volume = Volume.open(await copySnapshot(mount, folder))
        found.push(names(volume, volume.root))
        volume.close()
      }
      assert.deepEqual(await ended, [0, null])
      assert.ok(found.length > 0)
      for (const listed of found) assert.ok(listed.includes('f'), `${String(listed)} in one of ${String(found.length)} snapshots`)
      assert.equal(await shell('cd "$1"; ls -A; cat f', mount.mountpoint), 'f\n200\n')
    }))

  test('a snapshot holds what a program has written into a mapping and not synced', () =>
    withNative(async (mount, folder) => {
      const script = `import mmap, sys
f = open(sys.argv[1], 'w+b'); f.truncate(8192); m = mmap.mmap(f.fileno(), 8192); m[4096:4103] = b'through'; print('open', flush=True); sys.stdin.read()`
      const writer = spawn('python3', ['-c', script, join(mount.mountpoint, 'mapped')], { stdio: ['pipe', 'pipe', 'inherit'] })
      await once(writer.stdout, 'data')
      const copy = await copySnapshot(mount, folder)
      writer.stdin.end()
      await once(writer, 'exit')
      mkdirSync(join(folder, 'other'))
      const other = await mountFile(copy, join(folder, 'other'))
      assert.equal(await shell('tail -c +4097 "$1/mapped" | head -c 7', other.mountpoint), 'through')
      await other.stop()
    }))

  test('a new file belongs to its directory’s owner; setuid is not taken over, and the mount honours none', () =>
    withNative(async ({ mountpoint }) => {
      const script = `cd "$1"; umask 0; mkdir home; chown 1001:1002 home; chmod 777 home
      setpriv --reuid 1003 --regid 1003 --clear-groups perl -e 'use Fcntl; sysopen(my $f, "home/f", O_CREAT | O_WRONLY, 04755) or die $!'
      stat -c '%u %g %a' home/f; findmnt -no OPTIONS -T . | grep -o nosuid`
      assert.equal(await shell(script, mountpoint), '1001 1002 755\nnosuid\n')
    }))

  test('many processes at once keep what they wrote', () =>
    withNative(async ({ mountpoint }) => {
      const script = `cd "$1"; for p in {1..8}; do (mkdir $p; for i in {1..50}; do head -c $((i * 900)) /dev/urandom > $p/$i; done; cd $p; sha256sum * > sums) & done; wait
      for p in {1..8}; do (cd $p; sha256sum --quiet -c sums && ls | wc -l); done | uniq -c | tr -s ' '`
      assert.equal(await shell(script, mountpoint), ' 8 51\n')
    }))

  test('a program that the FUSE process waits for on the mount does not hold its device: it would keep a dead mount alive', () =>
    withFolder(async (folder) => {
      const [tools, log] = [join(folder, 'tools'), join(folder, 'log')]
      mkdirSync(tools)
      for (const name of ['xargs', 'umount']) {
        const real = (await shell('command -v "$1"', name)).trim()
        const script = `#!/bin/sh\necho ${name} $(readlink /proc/$$/fd/*) >> "${log}"\nexec ${real} "$@"\n`
        writeFileSync(join(tools, name), script, { mode: 0o755 })
      }
      const path = process.env['PATH']
      process.env['PATH'] = `${tools}:${path ?? ''}`
      try {
        await withNative(async (mount) => {
          const script = 'exec 3>"$1/f"; echo x >&3; echo open; read _'
          const writer = spawn('sh', ['-c', script, 'sh', mount.mountpoint], { stdio: ['pipe', 'pipe', 'inherit'] })
          await once(writer.stdout, 'data')
          await copySnapshot(mount, folder)
          writer.stdin.end('\n')
          await once(writer, 'exit')
          await mount.stop()
        })
      } finally {
        process.env['PATH'] = path
      }
      assert.equal(await shell('cut -d" " -f1 "$1" | sort -u', log), 'umount\nxargs\n')
      assert.doesNotMatch(await shell('cat "$1"', log), /dev.fuse/)
    }))

  test('a source with commas and backslashes is shown as it is, one that is too long is refused', () =>
    withNative(
      async (mount, folder) => {
        assert.equal(await shell('findmnt -rn -o FSTYPE,SOURCE "$1"', mount.mountpoint), 'fuse.litevol ./a,b\\x5cc,suid\n')
        const [file, mountpoint] = [join(folder, 'second.sqlite'), join(folder, 'second')]
        createVolumeFile(file)
        mkdirSync(mountpoint)
        await assert.rejects(mountFile(file, mountpoint, { driver, source: 'x'.repeat(2000) }), /too long for fuse-native/)
      },
      { source: './a,b\\c,suid' },
    ))

  test('litevol mount --driver mounts with it', () =>
    withFolder(async (folder) => {
      const script = `mkdir "$2/m"; "$1" mount --create --driver fuse-native "$2/v.sqlite" "$2/m" 2>"$2/log" & server=$!
      for i in $(seq 200); do mountpoint -q "$2/m" && break; sleep 0.1; done
      findmnt -rn -o OPTIONS "$2/m" | grep -q nosuid; echo x > "$2/m/f"; umount "$2/m"; wait $server; ls "$2"`
      assert.equal(await shell(script, litevol, folder), 'log\nm\nv.sqlite\n')
    }))
})

describe('without what fuse-native needs', { skip }, () => {
  /** Runs `litevol mount` where `hidden` is covered by `cover`; returns its exit code and complaint. */
  const mountWithout = (folder: string, hidden: string, cover: string) => {
    const script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    const mountpoint = join(folder, 'm')
    mkdirSync(mountpoint)
    const command = [litevol, 'mount', '--create', '--driver', driver, join(folder, 'v.sqlite'), mountpoint]
    const run = spawnSync('unshare', ['--mount', 'sh', '-c', script, 'sh', cover, hidden, ...command], {
      encoding: 'utf8',
      timeout: 60_000,
    })
    return { status: run.status, stderr: run.stderr }
  }

  test('a missing libfuse 2 is named with its cure', () =>
    withFolder((folder) => {
      const library = spawnSync('sh', ['-c', "ldconfig -p | sed -n 's/.*libfuse.so.2 .*=> //p' | head -n1"], {
        encoding: 'utf8',
      }).stdout.trim()
      const { status, stderr } = mountWithout(folder, realpathSync(library), '/dev/null')
      assert.equal(status, 1)
      assert.match(
        stderr,
        /litevol: driver fuse-native: the package fuse-native cannot be loaded: .*libfuse.*\(install libfuse 2 .*libfuse2/,
      )
    }))

  test('a package that is not installed is named with its cure', () =>
    withFolder((folder) => {
      const packageFolder = fileURLToPath(new URL('../../node_modules/fuse-native', import.meta.url))
      assert.ok(statSync(packageFolder).isDirectory())
      const { status, stderr } = mountWithout(folder, packageFolder, folder)
      assert.equal(status, 1)
      assert.match(stderr, /litevol: driver fuse-native: the package fuse-native is not installed \(run npm install fuse-native@2\.2\.6/)
    }))
})

test('the driver direct loads neither fuse-native nor libfuse', () =>
  withMount(async ({ pid }) => {
    const maps = await shell('cat "/proc/$1/maps"', String(pid))
    assert.doesNotMatch(maps, /libfuse|fuse-native/)
    assert.ok(readlinkSync(`/proc/${String(pid)}/exe`).endsWith('node'))
  }))
