#!/bin/sh
# test-containers.sh: `npm run test:containers`: the image, compose.yaml and propagation with a real Docker Engine. With file names: only those.
# Keeps: every process and mount of it ends with it, also an engine that cannot be stopped: it has a PID and a mount namespace of its
#   own, and a time limit. The engine's data and the base image are kept in $XDG_CACHE_HOME/litevol-test (/var/cache), one run at a time.
# Leaves: installing packages to .ci/run; building the images to test/containers/prepare.ts; where no engine can run, LITEVOL_NO_ENGINE=1
#   says that this is known.
# shellcheck source=scripts/setup.sh
. "$(dirname -- "$(readlink -f -- "$0")")/setup.sh"

if [ "${LITEVOL_NO_ENGINE:-}" = 1 ]; then
  litevol_say 'LITEVOL_NO_ENGINE=1: there is no container engine here, the tests in containers are NOT run'
  exit 0
fi
allow="(on a machine that can run none: LITEVOL_NO_ENGINE=1)"
# Debian's programs, whatever else is installed: the engine and its client are of one version.
PATH=$(dirname -- "$node"):$root/node_modules/.bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
missing=
while read -r package sign _; do
  case $package in '' | \#*) continue ;; esac
  [ -e "$sign" ] || command -v "$sign" >/dev/null 2>&1 || missing="$missing $package"
done <<LISTS
$(cat scripts/debian-packages scripts/debian-packages-containers)
LISTS
if [ -n "$missing" ]; then litevol_die "the tests in containers need Debian packages that are missing:$missing (apt-get install$missing) $allow"; fi
[ "$(id -u)" = 0 ] || litevol_die "a container engine needs root: run npm run test:containers as root $allow"
[ -c /dev/fuse ] || litevol_die "the tests need /dev/fuse: modprobe fuse, or give the container --privileged --device /dev/fuse $allow"

LITEVOL_TEST_CACHE=${XDG_CACHE_HOME:-/var/cache}/litevol-test
# All that the engine makes beside its data: it goes with the run, whatever became of the engine.
LITEVOL_TEST_RUN=$(mktemp -d "${TMPDIR:-/tmp}/litevol-test-containers-XXXXXX")
export LITEVOL_TEST_CACHE LITEVOL_TEST_RUN
mkdir -p "$LITEVOL_TEST_CACHE"
running=
# The control groups of containers that were killed with their engine have no process any more.
finish() {
  if [ -n "$running" ]; then
    kill -TERM "$running" 2>/dev/null || true
    wait "$running" || true
  fi
  rm -rf "$LITEVOL_TEST_RUN"
  find /sys/fs/cgroup -depth -type d -path "*/${LITEVOL_TEST_RUN##*/}*" -exec rmdir {} + 2>/dev/null || true
}
trap finish EXIT
trap 'exit 1' INT TERM HUP
exec 9>"$LITEVOL_TEST_CACHE/lock"
flock -w 900 9 || litevol_die "$LITEVOL_TEST_CACHE is used by another run (another folder: XDG_CACHE_HOME)"

# In namespaces of their own, for SECONDS at most: what is left when the first process ends is killed, and mounts go with it. In the
# background, so that a signal to this script ends it at once: timeout(1) passes that on, and kills a second later.
apart() {
  limit=$1 code=0
  shift
  timeout --signal=KILL --kill-after=1 "$limit" \
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc "$@" 9>&- &
  running=$!
  wait "$running" || code=$?
  running=
  return "$code"
}

echo '== images'
# On the network of the machine: the builder installs packages.
apart 900 node --disable-warning=ExperimentalWarning test/containers/prepare.ts ||
  litevol_die "no container engine could be started here, or the image could not be built: see the lines above $allow"
echo '== tests in containers'
[ $# != 0 ] || set -- 'test/containers/*.test.ts'
status=0
apart 900 --net sh scripts/container-host.sh "$@" || status=$?
[ "$status" != 137 ] || litevol_say 'the tests in containers were killed: they took longer than 15 minutes'
exit "$status"
