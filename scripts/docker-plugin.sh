#!/bin/sh
# docker-plugin.sh IMAGE NAME: makes a managed Docker plugin NAME out of litevol's image and docker-plugin/config.json. Enabling it,
# and setting its folder and port before, is left to the operator (docs/docker-volume-plugin.md).
# Keeps: what is made on the way is gone at the end.
set -eu
[ $# = 2 ] || { echo 'docker-plugin.sh: usage: docker-plugin.sh IMAGE NAME' >&2; exit 2; }
config=$(dirname -- "$(readlink -f -- "$0")")/../docker-plugin/config.json
folder=$(mktemp -d "${TMPDIR:-/tmp}/litevol-plugin-XXXXXX")
container=
finish() {
  [ -z "$container" ] || docker rm -f -v "$container" >/dev/null || true
  rm -rf "$folder"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP
container=$(docker create "$1")
mkdir "$folder/rootfs"
docker export -o "$folder/rootfs.tar" "$container"
tar -C "$folder/rootfs" -xf "$folder/rootfs.tar"
rm "$folder/rootfs.tar"
# Where Docker mounts what config.json names.
mkdir -p "$folder/rootfs/mnt" "$folder/rootfs/run/litevol" "$folder/rootfs/run/docker/plugins" "$folder/rootfs/var/lib/litevol"
cp "$config" "$folder/config.json"
docker plugin create "$2" "$folder"
