#!/bin/sh
# smoke-image.sh IMAGE: tries litevol's image with the Docker Engine of this machine, as root: started with the flags of README, a volume
# is made, mounted, written by one container and read by another, exported and checked; it stops in order.
# Keeps: nothing of it is left, neither container nor volume nor mount; paths and ports are its own.
# Leaves: everything else to test/containers.
set -eu
[ $# = 1 ] || { echo 'smoke-image.sh: usage: smoke-image.sh IMAGE' >&2; exit 2; }
image=$1
folder=$(mktemp -d "${TMPDIR:-/tmp}/litevol-smoke-XXXXXX")
name=$(basename -- "$folder")
fail() { printf 'smoke-image.sh: %s\n' "$1" >&2; exit 1; }
finish() {
  code=$?
  trap - EXIT
  [ "$code" = 0 ] || docker logs "$name" >&2 || true
  docker rm -f -v "$name" >/dev/null 2>&1 || true
  docker volume rm "$name" >/dev/null 2>&1 || true
  rm -rf --one-file-system "$folder"
  exit "$code"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

mkdir "$folder/mnt"
(umask 077 && head -c 32 /dev/urandom | base64 >"$folder/token")
docker run -d --name "$name" --cap-add SYS_ADMIN --device /dev/fuse --security-opt apparmor=unconfined \
  -v "$name:/var/lib/litevol" -v "$folder/mnt:/mnt:rshared" -e LITEVOL_HOST_MOUNT_ROOT="$folder/mnt" \
  -v "$folder/token:/run/secrets/litevol-token:ro" -e LITEVOL_TOKEN_FILE=/run/secrets/litevol-token \
  -p 127.0.0.1::8080 "$image" >/dev/null
address=http://$(docker port "$name" 8080/tcp | head -n 1)
call() { curl -fsS --max-time 30 -H "authorization: Bearer $(cat "$folder/token")" "$@"; }
# The value of a member of a flat JSON object, read in the image: this machine needs no jq.
member() { docker exec -i "$name" node -e 'console.log(JSON.parse(require("fs").readFileSync(0))[process.argv[1]])' "$1"; }
consume() { docker run --rm --network none -v "$1:/data" --entrypoint sh "$image" -c "$2"; }

tries=0
until call "$address/health" >/dev/null 2>&1; do
  [ "$(docker inspect --format '{{.State.Running}}' "$name")" = true ] || fail 'it has ended'
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || fail 'it does not answer'
  sleep 0.5
done
[ "$(curl -s -o "$folder/reply" -w '%{http_code}' "$address/volumes")" = 401 ] || fail 'without the token the API answers'
id=$(call -X POST "$address/volumes" -H 'content-type: application/json' -d '{"name":"smoke"}' | member id)
path=$(call -X POST "$address/volumes/$id/mount" -H 'content-type: application/json' -d '{}' | member host_path)
consume "$path" 'mkdir /data/a && echo hello >/data/a/file'
[ "$(consume "$path" 'cat /data/a/file')" = hello ] || fail 'a second container does not see what the first has written'
call "$address/volumes/$id/export" -o "$folder/snap.sqlite"
docker run --rm --network none -v "$folder:/s" "$image" check --deep /s/snap.sqlite
docker stop -t 10 "$name" >/dev/null
code=$(docker inspect --format '{{.State.ExitCode}}' "$name")
[ "$code" = 0 ] || fail "it ended with $code"
! grep -q " $path " /proc/self/mountinfo || fail 'the volume is still mounted'
echo "$image: works"
