#!/usr/bin/env bash
# bench/run.sh: `npm run bench`: the yardstick on a litevol mount, on one without low latency, on those of its peers that are installed, and on the
#   plain disk; then what each request costs the engine (requests.ts).
# Keeps: rounds are interleaved, so that a slow minute of the machine hits all alike, and each begins with another label; everything lies
#   under one temporary folder on one disk and is gone afterwards, also after an error or a signal; a peer that fails or takes too long is
#   named and left out.
# Leaves: the cases to fsbench.sh (DIR LABEL -> "label<TAB>case<TAB>value<TAB>unit"), found at $FSBENCH or ../shared/bench/fsbench.sh;
#   medians, table and chart to report.ts.
# Settings: BENCH_DIR (where, default the disk of /var/tmp), BENCH_ROUNDS (3), BENCH_TIMEOUT (seconds a pass may take, 900),
#   BENCH_PEERS ("bindfs gocryptfs cryfs"), BENCH_CHART (an SVG file to write, default none).
set -euo pipefail
root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
fsbench=${FSBENCH:-$root/../shared/bench/fsbench.sh}
rounds=${BENCH_ROUNDS:-3}
limit=${BENCH_TIMEOUT:-900}

die() { echo "bench: $*" >&2; exit 1; }
[[ -f $fsbench ]] || die "the yardstick is missing: name it by FSBENCH=/path/to/fsbench.sh"
[[ $(id -u) == 0 ]] || die 'root is needed, to mount and to drop the page cache'
for program in fio jq bc python3 sqlite3 git mountpoint; do
  command -v "$program" >/dev/null || die "$program is missing"
done

work=$(mktemp -d "${BENCH_DIR:-/var/tmp}/litevol-bench.XXXXXX")
pids=()
labels=(litevol)
[[ ! -w /dev/cpu_dma_latency ]] || labels+=(no_low_latency)

# Ends what was started here, and only that: unmount first (lazily when busy), then the processes by their ids.
cleanup() {
  local mountpoint pid
  for mountpoint in "${labels[@]/#/$work/}"; do
    if timeout 10 mountpoint -q "$mountpoint"; then
      timeout 60 umount "$mountpoint" || timeout 10 umount -l "$mountpoint" || true
    fi
  done
  for pid in "${pids[@]}"; do
    for _ in {1..100}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

wait_mounted() { # MOUNTPOINT PID
  for _ in {1..300}; do
    timeout 10 mountpoint -q "$1" && return 0
    kill -0 "$2" 2>/dev/null || die "nothing serves $1: $(tail -n 5 "$work/log")"
    sleep 0.1
  done
  die "$1 was not mounted within 30 s: $(tail -n 5 "$work/log")"
}

"$root/bin/litevol" --version >/dev/null # installs what is missing, so that waiting does not
mount_litevol() { exec "$root/bin/litevol" mount --create "$work/litevol.sqlite" "$1"; }
mount_no_low_latency() { exec "$root/bin/litevol" mount -o nolow_latency --create "$work/no_low_latency.sqlite" "$1"; }
mount_bindfs() { exec bindfs -f "$work/bindfs.back" "$1"; }
mount_gocryptfs() {
  gocryptfs -init -q -passfile "$work/pass" "$work/gocryptfs.back"
  exec gocryptfs -fg -q -passfile "$work/pass" "$work/gocryptfs.back" "$1"
}
mount_cryfs() { CRYFS_FRONTEND=noninteractive CRYFS_NO_UPDATE_CHECK=true exec cryfs -f "$work/cryfs.back" "$1" <"$work/pass"; }

echo benchmark >"$work/pass"
for peer in ${BENCH_PEERS-bindfs gocryptfs cryfs}; do
  if command -v "$peer" >/dev/null; then labels+=("$peer"); else echo "bench: $peer is not installed: no ratio to it" >&2; fi
done
for label in "${labels[@]}"; do
  mkdir "$work/$label" "$work/$label.back"
  "mount_$label" "$work/$label" >>"$work/log" 2>&1 </dev/null &
  pids+=($!)
  wait_mounted "$work/$label" $!
done
mkdir "$work/plain"
labels+=(plain)
count=${#labels[@]}

for ((round = 1; round <= rounds; round++)); do
  for ((turn = 0; turn < count; turn++)); do
    place=$(((round - 1 + turn) % count))
    label=${labels[place]-}
    [[ -n $label ]] || continue
    timeout "$limit" sync || die "what the pass before has left dirty is not written after $limit s"
    echo "bench: round $round of $rounds: $label" >&2
    if ! timeout --kill-after=30 "$limit" bash "$fsbench" "$work/$label" "$label" >"$work/pass.out"; then
      [[ $label != litevol && $label != plain ]] || die "$label failed: $(tail -n 5 "$work/log")"
      echo "bench: $label failed or took longer than $limit s: left out from here on" >&2
      unset "labels[place]"
    fi
    tee -a "$work/results" <"$work/pass.out" >&2
  done
done

# shellcheck source=bin/runtime.sh
. "$root/bin/runtime.sh"
litevol_find_node
"$node" --disable-warning=ExperimentalWarning "$root/bench/report.ts" "$work/results" ${BENCH_CHART:+"$BENCH_CHART"}
printf '\n%s rounds, medians. %s cores, %s, kernel %s, %s\n' \
  "$rounds" "$(nproc)" "$(free -h | awk '/^Mem:/ { print $2 }')" "$(uname -r)" "$(date -u +%F)"
printf '\nWhat each request costs the engine:\n\n'
BENCH_DIR=$work "$node" --disable-warning=ExperimentalWarning "$root/bench/requests.ts" "$rounds"
