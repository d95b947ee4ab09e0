#!/bin/sh
# pjdfstest.sh: `npm run test:pjdfstest`. Runs the POSIX suite pjdfstest on a new volume; PJDFSTEST names the folder it was built in.
# Keeps: the status is that of the suite, and an unmount or a FUSE process that fails counts too; nothing is left behind.
# Leaves: fetching and building the suite to docs/posix.md. With file names (tests/rename): only those tests.
# shellcheck source=scripts/setup.sh
. "$(dirname -- "$(readlink -f -- "$0")")/setup.sh"

[ "$(id -u)" = 0 ] || litevol_die 'pjdfstest mounts, and changes owners: run it as root'
[ -n "${PJDFSTEST:-}" ] || litevol_die 'PJDFSTEST is not set: it names the folder in which pjdfstest was built (docs/posix.md says how)'
[ -x "$PJDFSTEST/pjdfstest" ] || litevol_die "PJDFSTEST: $PJDFSTEST holds no program pjdfstest: build it there (docs/posix.md says how)"
command -v prove >/dev/null || litevol_die 'prove is missing: it comes with perl (apt-get install perl)'
suite=$(readlink -f -- "$PJDFSTEST")
[ $# -gt 0 ] || set -- tests

folder=$(mktemp -d "${TMPDIR:-/tmp}/litevol-pjdfstest-XXXXXX")
mkdir "$folder/mount"
server=
# Unmounts, however this ends; the server ends with its mount.
finish() {
  status=$?
  trap - EXIT
  if mountpoint -q "$folder/mount"; then
    umount "$folder/mount" || { umount -l "$folder/mount" || true; status=1; }
  elif [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
  fi
  if [ -n "$server" ]; then wait "$server" || { litevol_say 'the server did not end cleanly'; status=1; }; fi
  rm -rf "$folder"
  exit "$status"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

sh bin/litevol mount --create "$folder/volume.sqlite" "$folder/mount" &
server=$!
tries=0
until mountpoint -q "$folder/mount"; do
  if [ "$tries" -ge 300 ] || ! kill -0 "$server" 2>/dev/null; then litevol_die 'the volume was not mounted: see the lines above'; fi
  tries=$((tries + 1))
  sleep 0.1
done

for name; do
  shift
  set -- "$@" "$suite/$name"
done
status=0
(cd "$folder/mount" && exec prove -rQ "$@") >"$folder/report" 2>&1 || status=$?
cat "$folder/report"
# `Files=238, Tests=8798, …` closes the report; a file with failures has a line `(Wstat: 0 Tests: 10 Failed: 2)`.
awk '
  match($0, /Tests=[0-9]+/) { total = substr($0, RSTART + 6, RLENGTH - 6) }
  match($0, / Failed: [0-9]+\)/) { failed += substr($0, RSTART + 9, RLENGTH - 10) }
  END { printf "pjdfstest: passed %d of %d\n", total - failed, total }
' "$folder/report"
exit "$status"
