import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drivers, shell } from '../mount/support.ts'
import { Service, litevol, withRoots } from './support.ts'

/** The tour of README, run against the started service with real curl; $1 its URL, $2 a folder, $3 the command, $4 the driver. */
const before = `
B=$1; T=$2; litevol=$3
VID=$(curl -fsS -X POST $B/volumes -H 'content-type: application/json' -d '{"name":"photos"}' | jq -r .id)
MNT=$(curl -fsS -X POST $B/volumes/$VID/mount -H 'content-type: application/json' -d '{}' | jq -r .mountpoint)
curl -fsS $B/volumes/$VID/mount | jq -e --arg driver "$4" '.driver == $driver' >/dev/null
git init -q "$T/source"; cp -r /usr/share/perl "$T/source/" 2>/dev/null || cp -r /usr/share/doc/git* "$T/source/"
git -C "$T/source" add -A; git -C "$T/source" -c user.name=x -c user.email=x@x commit -qm one
cp -a /usr/share/doc "$MNT/"; diff -r --no-dereference /usr/share/doc "$MNT/doc"
git clone -q --no-hardlinks "$T/source" "$MNT/repo"; git -C "$MNT/repo" fsck 2>/dev/null
curl -fsS $B/volumes/$VID/stat | jq -e '.mounted and .size_bytes > 1000000 and .mtime > 1700000000' >/dev/null
while :; do echo line >> "$MNT/log"; done & writer=$!
trap 'kill $writer 2>/dev/null || true; umount "$T/snap" 2>/dev/null || true' EXIT
curl -fsS $B/volumes/$VID/export -o "$T/snap.sqlite"
kill $writer; wait $writer 2>/dev/null || true
[ "$(sqlite3 "$T/snap.sqlite" 'pragma integrity_check')" = ok ]
mkdir "$T/snap"; "$litevol" mount --driver "$4" "$T/snap.sqlite" "$T/snap" 2>"$T/snap.log" & server=$!
for i in $(seq 200); do mountpoint -q "$T/snap" && break; sleep 0.1; done
diff -r --no-dereference "$MNT/doc" "$T/snap/doc"; diff -r --no-dereference "$MNT/repo" "$T/snap/repo"
cmp <(head -c "$(stat -c %s "$T/snap/log")" "$MNT/log") "$T/snap/log"
umount "$T/snap"; wait $server
curl -fsS -X POST $B/volumes/$VID/checkpoint | jq -e '.wal_frames_remaining == 0' >/dev/null
curl -fsS -X DELETE $B/volumes/$VID/mount
echo "$VID"
`

const after = `
B=$1; VID=$2
[ "$(curl -fsS $B/volumes | jq -r '.[0].name // .volumes[0].name')" = photos ]
MNT=$(curl -fsS -X POST $B/volumes/$VID/mount -H 'content-type: application/json' -d '{}' | jq -r .mountpoint)
diff -r --no-dereference /usr/share/doc "$MNT/doc"
curl -fsS -X DELETE $B/volumes/$VID/mount; curl -fsS -X DELETE $B/volumes/$VID
curl -fsS $B/volumes
`

for (const { driver, skip } of drivers) {
  test(`the tour of README works with the driver ${driver}, over a restart of the service`, { skip }, () =>
    withRoots(async (roots, folder) => {
      const environment = { LITEVOL_DRIVER: driver }
      const first = await Service.start(roots, environment)
      const id = (await shell(before, first.url, folder, litevol, driver)).trim()
      assert.equal(first.volumeFiles().length, 1, 'one file remains, no -wal')
      await first.stop()
      const second = await Service.start(roots, environment)
      const listed = await shell(after, second.url, id)
      assert.ok(!listed.includes('photos'))
      assert.deepEqual(second.volumeFiles(), [])
      await second.stop('SIGINT')
    }),
  )
}
