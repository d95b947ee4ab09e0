#!/bin/sh
# test.sh: `npm test`. Everything: lint.sh, then every test, on real mounts. With file names: only those tests, without lint.
# Keeps: what is missing on the machine is named, all of it, before anything runs; it ends with the runner's closing lines.
# Leaves: the tests in containers to test-containers.sh; installing what is missing, and looking for what the tests left behind, to .ci/run.
# shellcheck source=scripts/setup.sh
. "$(dirname -- "$(readlink -f -- "$0")")/setup.sh"

missing=
while read -r package sign _; do
  case $package in '' | \#*) continue ;; esac
  [ -e "$sign" ] || command -v "$sign" >/dev/null 2>&1 || missing="$missing $package"
done <scripts/debian-packages
if [ -n "$missing" ]; then litevol_die "the tests need Debian packages that are missing:$missing (apt-get install$missing)"; fi
[ "$(id -u)" = 0 ] || litevol_die 'the tests mount filesystems: run npm test as root (without root: npm run check)'
[ -c /dev/fuse ] || litevol_die 'the tests need /dev/fuse: modprobe fuse, or give the container --privileged --device /dev/fuse'

if [ $# = 0 ]; then
  sh scripts/lint.sh
  echo '== tests'
  # Those in containers need an engine: scripts/test-containers.sh.
  # shellcheck disable=SC2046 # one word a file: none of ours has a space in its name
  set -- $(find test -name '*.test.ts' -not -path 'test/containers/*' | sort)
fi
# Run folders of processes that a test kills stay behind (the next mount of the same volume would remove them): they go here.
LITEVOL_RUN_DIR=$(mktemp -d "${TMPDIR:-/tmp}/litevol-run.XXXXXX")
export LITEVOL_RUN_DIR
trap 'rm -rf "$LITEVOL_RUN_DIR"' EXIT
# Two files at once: each mounts and fills both cores for a while. The limit is for a hang; the slowest test copies 2 GiB.
node --disable-warning=ExperimentalWarning --test --test-reporter=spec --test-concurrency=2 --test-timeout=600000 "$@"
