/**
 * `mount -t fuse.litevol`, fstab, remount and umount as root types them, by the helper bin/mount.fuse.litevol.
 * Keeps: each script runs in mount and process namespaces of its own, where /sbin holds nothing but the link to the helper: nothing
 *   on the machine changes, and whatever a failed script leaves, mounts and processes, ends with it.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createVolumeFile } from '../../src/engine/index.ts'
import { assertClean, withFolder } from '../support.ts'

const helper = fileURLToPath(new URL('../../bin/mount.fuse.litevol', import.meta.url))
const limit = { timeout: 300_000 }

/** What every script begins with. `unserved` waits until no FUSE process is left, `fails` prints what a failing command says and its exit code. */
const prelude = `set -euo pipefail
cd "$1"
mount --bind sbin "$(readlink -f /sbin)"
unserved() { for i in {1..600}; do pgrep -f '^litevol: ' >/dev/null || return 0; sleep 0.1; done; echo "a FUSE process is left"; return 1; }
fails() { local code=0; "$@" 2>&1 || code=$?; echo "exit $code"; }
`

/** Runs a script in a folder with a volume file `v`, an empty directory `d` and the helper in /sbin; returns what it prints. */
async function run(folder: string, script: string): Promise<string> {
  const args = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', 'bash', '-c', prelude + script, 'bash', folder]
  const child = spawn('unshare', args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`, LC_ALL: 'C', LITEVOL_LOG_LEVEL: 'info' },
    timeout: limit.timeout,
    killSignal: 'SIGKILL',
  })
  const [output, complaints, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit') as Promise<[number | null, string | null]>,
  ])
  assert.equal(signal ?? code, 0, `${output}${complaints}`)
  return output
}

/** Runs `work` with such a folder; afterwards the volume must be one file and clean. */
function withVolumeFile(work: (folder: string) => Promise<void>): Promise<void> {
  return withFolder(async (folder) => {
    for (const name of ['sbin', 'd', 'e']) mkdirSync(join(folder, name))
    symlinkSync(helper, join(folder, 'sbin', 'mount.fuse.litevol'))
    createVolumeFile(join(folder, 'v'))
    await work(folder)
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.startsWith('v-')),
      [],
      'one file is left',
    )
    assertClean(join(folder, 'v'))
  })
}

test('mount -t fuse.litevol returns when the volume serves, with the flags asked for, and leaves a process without ties', limit, () =>
  withVolumeFile(async (folder) => {
    const output = await run(
      folder,
      `said=$(mount -t fuse.litevol v d -o noatime,nodev,nosuid,noexec,sync,dirsync,_netdev,nofail,x-a=b,user=bob,log=log 2>&1)
      echo "said: $said"
      findmnt -n -o FSTYPE,SOURCE,OPTIONS d | tr -s ' '
      pid=$(pgrep -f '^litevol: serving')
      ps -o tty=,args= -p $pid | tr -s ' '
      [ "$(ps -o sid= -p $pid)" = "$(ps -o sid= -p $$)" ] || echo "a session of its own"
      readlink /proc/$pid/cwd /proc/$pid/fd/0 /proc/$pid/fd/2
      echo hello > d/x; umount d; unserved
      mount -t fuse.litevol v d -o ro,log=log; cat d/x; fails touch d/y; umount d; unserved`,
    )
    const lines = output.trimEnd().split('\n')
    assert.equal(lines[0], 'said: ')
    const flags = 'rw,nosuid,nodev,noexec,noatime,sync,dirsync'
    assert.equal(
      lines[1],
      `fuse.litevol ${join(folder, 'v')} ${flags},user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576`,
    )
    assert.match(lines[2] ?? '', /^\? litevol: serving 0:\d+ \S+\/d \S+\/v$/)
    const log = join(folder, 'log')
    assert.deepEqual(lines.slice(3, 7), ['a session of its own', '/', '/dev/null', log])
    assert.deepEqual(lines.slice(7), ['hello', "touch: cannot touch 'd/y': Read-only file system", 'exit 1'])
    assert.match(readFileSync(log, 'utf8'), /"msg":"mounted".*"msg":"unmounted".*"msg":"mounted".*"msg":"unmounted"/s)
  }),
)

const refusals: readonly (readonly [string, string, RegExp])[] = [
  ['an unknown word', 'mount -t fuse.litevol v d -o ro,frobnicate', /^litevol: mount option 'frobnicate': .*\nexit 1$/],
  ['a file that is not there', 'mount -t fuse.litevol nothing d', /^litevol: volume file \S+nothing: does not exist\nexit 32$/],
  ['a file that is no volume', 'mount -t fuse.litevol text d', /^litevol: volume file \S+text: .*\nexit 32$/],
  ['a log that cannot be opened', 'mount -t fuse.litevol v d -o log=/no/where', /^litevol: log \/no\/where: .*\nexit 32$/],
  ['a directory that is not there', 'mount -t fuse.litevol v nowhere', /exit 32$/],
  ['create of a file that is there', 'mount -t fuse.litevol v d -o create', /^litevol: volume file \S+v: exists already\nexit 32$/],
  ['the helper without arguments', 'sbin/mount.fuse.litevol', /^mount\.fuse\.litevol: FILE and DIR are needed .*\nexit 1$/],
  ['the helper with one too many', 'sbin/mount.fuse.litevol v d e', /^mount\.fuse\.litevol: e: too many arguments .*\nexit 1$/],
  ['the helper for another namespace', 'sbin/mount.fuse.litevol v d -N /proc/1/ns/mnt', /^mount\.fuse\.litevol: -N: .*\nexit 1$/],
  ['the helper for another type', 'sbin/mount.fuse.litevol v d -t fuse.other', /^mount\.fuse\.litevol: type fuse\.other: .*\nexit 1$/],
]
test('what cannot be mounted is one line with the reason, 1 for wrong usage and 32 for a failed mount, and leaves nothing', limit, () =>
  withVolumeFile(async (folder) => {
    writeFileSync(join(folder, 'text'), 'no volume '.repeat(1000))
    for (const [what, command, wanted] of refusals) {
      assert.match((await run(folder, `fails ${command}; findmnt -n d && exit 9; unserved`)).trimEnd(), wanted, what)
    }
  }),
)

test('mount -s passes over an unknown word, mount -f mounts nothing, -o create makes the file', limit, () =>
  withVolumeFile(async (folder) => {
    const output = await run(
      folder,
      `mount -f -t fuse.litevol v d; findmnt -n d || echo "not mounted"
      mount -s -t fuse.litevol v d -o frobnicate,log=log; mountpoint d; umount d; unserved
      mount -n -v -t fuse.litevol new e -o create,log=log; mountpoint e; umount e; unserved; ls new*`,
    )
    assert.deepEqual(output.trimEnd().split('\n'), ['not mounted', 'd is a mountpoint', 'e is a mountpoint', 'new'])
  }),
)

test('lines of fstab work: mount DIR, mount -a, which mounts a second time nothing that is mounted, remount and umount', limit, () =>
  withVolumeFile(async (folder) => {
    const output = await run(
      folder,
      `echo "$PWD/v $PWD/d fuse.litevol noatime,nofail,_netdev,x-systemd.requires=local-fs.target,log=$PWD/log 0 0" > fstab
      mount -T fstab -a; mount -T fstab -a; findmnt -n d | wc -l; echo kept > d/x
      export LIBMOUNT_FSTAB=$PWD/fstab
      mount -o remount,ro d; findmnt -n -o VFS-OPTIONS d; fails touch d/y
      umount d; mount "$PWD/d"; cat d/x; findmnt -n -o VFS-OPTIONS d; umount d; unserved`,
    )
    assert.deepEqual(output.trimEnd().split('\n'), [
      '1',
      'ro,noatime',
      "touch: cannot touch 'd/y': Read-only file system",
      'exit 1',
      'kept',
      'rw,noatime',
    ])
  }),
)

for (const [how, mount, prepare] of [
  ['by the helper', 'mount', ''],
  ['without a helper', 'mount', 'rm sbin/mount.fuse.litevol'],
  ['past the helpers of other packages', 'mount -i', 'ln -sf /bin/false sbin/mount.fuse.litevol'],
] as const) {
  test(`remount ro and rw, ${how}: refused while a file is open for writing, then EROFS, then writable again`, limit, () =>
    withVolumeFile(async (folder) => {
      const output = await run(
        folder,
        `mount -t fuse.litevol v d -o nodev,log=log; ${prepare}
        exec 3>d/held; fails ${mount} -o remount,ro d | grep -o 'busy\\|exit.*'; echo more >&3; exec 3>&-
        ${mount} -o remount,ro d; findmnt -n -o VFS-OPTIONS,FS-OPTIONS d | grep -o 'r[ow],' | tr '\\n' ' '; findmnt -n -o OPTIONS d | grep -o nodev
        cat d/held; fails touch d/x; fails truncate -s 0 d/held; fails chmod 600 d/held
        ${mount} -o remount,rw d; echo x > d/x; cat d/held; ls d | tr '\\n' ' '; echo
        umount d; unserved`,
      )
      const refused = (what: string): string[] => [what, 'exit 1']
      assert.deepEqual(output.trimEnd().split('\n'), [
        'busy',
        'exit 32',
        'ro, ro, nodev',
        'more',
        ...refused("touch: cannot touch 'd/x': Read-only file system"),
        ...refused("truncate: cannot open 'd/held' for writing: Read-only file system"),
        ...refused("chmod: changing permissions of 'd/held': Read-only file system"),
        'more',
        'held x',
      ])
    }),
  )
}

test('umount and mount, again and again with data just written: each mount waits for the process before it, nothing is lost', limit, () =>
  withVolumeFile(async (folder) => {
    const output = await run(
      folder,
      `mount -t fuse.litevol v d -o log=log
      for i in {1..10}; do
        head -c 3M /dev/urandom | tee d/data$i | sha256sum | sed "s|-|d/data$i|" >> sums
        umount d; mount -t fuse.litevol v d -o log=log
      done
      sha256sum --quiet -c sums && ls d | wc -l
      umount d; unserved; ls v*; grep -c '"msg":"unmounted"' log; grep '"level":[456]0' log | grep -vc 'the keeper does not end' || true`, // said of a keeper that stood still, as on a machine that stalls
    )
    assert.deepEqual(output.trimEnd().split('\n'), ['10', 'v', '11', '0'])
  }),
)

test('a file that somebody serves is refused with who that is, and goes on being served', limit, () =>
  withVolumeFile(async (folder) => {
    const output = await run(
      folder,
      `mount -t fuse.litevol v d -o log=log; pgrep -f '^litevol: serving'
      fails mount -t fuse.litevol v e -o log=log; echo alive > d/x; cat d/x; umount d; unserved`,
    )
    const [pid = '', refusal = '', ...rest] = output.trimEnd().split('\n')
    assert.match(refusal, new RegExp(`^litevol: volume file \\S+/v: held by process ${pid} \\(litevol: serving .*\\) \\(stop that process first\\)$`)) // prettier-ignore
    assert.deepEqual(rest, ['exit 32', 'alive'])
  }),
)

test('without log=FILE the log goes to syslog, or it is said that there is none', limit, () =>
  withVolumeFile(async (folder) => {
    writeFileSync(
      join(folder, 'syslog.py'),
      `import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('/dev/log'); print('bound', flush=True)
while True:
    line = s.recv(65536).decode(); print(line, flush=True)
    if '"msg":"unmounted"' in line: break
`,
    )
    const output = await run(
      folder,
      `mount -t tmpfs tmpfs /dev; for n in 'fuse 10 229' 'null 1 3' 'urandom 1 9'; do set -- $n; mknod -m 666 /dev/$1 c $2 $3; done
      mount -t fuse.litevol v d 2>&1; umount d; unserved
      python3 syslog.py > lines 2>&1 & until grep -q bound lines; do sleep 0.05; done
      mount -t fuse.litevol v d 2>&1; umount d; wait $!; unserved; grep -v bound lines`,
    )
    const [first, ...lines] = output.trimEnd().split('\n')
    assert.equal(first, 'litevol: no syslog here, so what goes wrong later is not logged: say -o log=FILE')
    assert.match(lines[0] ?? '', /^<29>.*litevol: \{.*"msg":"mounted"\}$/, 'daemon.notice')
    assert.match(lines.at(-1) ?? '', /"msg":"unmounted"\}$/)
  }),
)

test('litevol mount -o works in the foreground too, until umount', limit, () =>
  withVolumeFile(async (folder) => {
    const output = await run(
      folder,
      `${join(dirname(helper), 'litevol')} mount v d -o ro,noatime --options nodev 2> said & pid=$!
      for i in {1..300}; do mountpoint -q d && break; sleep 0.1; done
      findmnt -n -o VFS-OPTIONS d; umount d; wait $pid; echo "exit $?"; grep -v '^{' said`,
    )
    assert.deepEqual(output.trimEnd().split('\n'), ['ro,nodev,noatime', 'exit 0', 'mounted v on d'])
  }),
)
