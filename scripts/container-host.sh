#!/bin/sh
# container-host.sh FILE…: the test files one after the other, on what looks like a host of its own. Called by test-containers.sh only,
# in a mount, PID and network namespace of its own.
# Keeps: the paths and ports that compose.yaml and README name are free here, and nothing of the machine is changed by using them.
set -eu
[ $$ = 1 ] || { echo 'container-host.sh: is for scripts/test-containers.sh, in a PID namespace of its own' >&2; exit 1; }
# As systemd leaves it: everything is a shared mount. In this namespace it began as private, so the machine's own mounts hear nothing.
mount --make-rshared /
# Where volumes appear, and where plugins, another engine's containerd and the run folders of mounts would be found: all empty here.
for folder in /mnt /run; do mount -t tmpfs -o mode=755 litevol-test "$folder"; done
ip link set lo up
# No exec: this shell is the first process of its namespace, and reaps what the engine leaves.
status=0
node --disable-warning=ExperimentalWarning --test --test-reporter=spec --test-concurrency=1 --test-timeout=240000 "$@" || status=$?
exit "$status"
