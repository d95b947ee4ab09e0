#!/usr/bin/env bash
# bench/run.sh: `npm run bench`: the yardstick on a litevol mount, on gocryptfs and on the plain disk, in one sitting.
# Keeps: three rounds, interleaved, so that a slow minute of the machine hits all three alike; prints medians and their ratios;
#   everything lies under one temporary folder on one disk and is gone afterwards, also after an error or a signal.
# Leaves: the cases to fsbench.sh (DIR LABEL -> "label<TAB>case<TAB>value<TAB>unit"), found at $FSBENCH or ../shared/bench/fsbench.sh.
# Settings: BENCH_DIR (where, default the disk of /var/tmp), BENCH_ROUNDS (3), BENCH_TIMEOUT (seconds a pass may take, 900).
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
has_gocryptfs=$(command -v gocryptfs || true)
[[ -n $has_gocryptfs ]] || echo 'bench: gocryptfs is not installed: no ratio to it' >&2

work=$(mktemp -d "${BENCH_DIR:-/var/tmp}/litevol-bench.XXXXXX")
mkdir "$work/litevol" "$work/gocryptfs" "$work/plain" "$work/cipher"
pids=()

# Ends what was started here, and only that: unmount first (lazily when busy), then the processes by their ids.
cleanup() {
  local mountpoint pid
  for mountpoint in "$work/litevol" "$work/gocryptfs"; do
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
"$root/bin/litevol" mount --create "$work/volume.sqlite" "$work/litevol" >>"$work/log" 2>&1 </dev/null &
pids+=($!)
wait_mounted "$work/litevol" $!
labels=(litevol plain)
if [[ -n $has_gocryptfs ]]; then
  echo benchmark >"$work/pass"
  gocryptfs -init -q -passfile "$work/pass" "$work/cipher" >>"$work/log" 2>&1
  gocryptfs -fg -q -passfile "$work/pass" "$work/cipher" "$work/gocryptfs" >>"$work/log" 2>&1 </dev/null &
  pids+=($!)
  wait_mounted "$work/gocryptfs" $!
  labels=(litevol gocryptfs plain)
fi

for ((round = 1; round <= rounds; round++)); do
  for label in "${labels[@]}"; do
    echo "bench: round $round of $rounds: $label" >&2
    timeout --kill-after=30 "$limit" bash "$fsbench" "$work/$label" "$label" | tee -a "$work/results" >&2
  done
done

# Medians per case, and litevol over the others. A unit of seconds is better when smaller: its ratio is turned over.
python3 - "$work/results" <<'P'
import statistics, sys
cases, units, values = [], {}, {}
for line in open(sys.argv[1]):
    label, case, value, unit = line.rstrip('\n').split('\t')
    if case not in units:
        cases.append(case)
    units[case] = unit
    values.setdefault((label, case), []).append(float(value))
median = lambda label, case: statistics.median(values[label, case]) if (label, case) in values else None
def ratio(case, other):
    a, b = median('litevol', case), median(other, case)
    if not a or not b:
        return '-'
    return f'{b / a if units[case] == "s" else a / b:.2f}'
show = lambda v: '-' if v is None else f'{v:,.2f}' if v < 10 else f'{v:,.0f}'
print('| case | unit | litevol | gocryptfs | plain disk | x gocryptfs | x plain |\n|---|---|--:|--:|--:|--:|--:|')
for c in cases:
    print(f'| {c} | {units[c]} | {show(median("litevol", c))} | {show(median("gocryptfs", c))} | {show(median("plain", c))} | {ratio(c, "gocryptfs")} | {ratio(c, "plain")} |')
P
printf '\n%s rounds, medians; a ratio above 1 means that litevol is the faster one. ' "$rounds"
printf '%s cores, %s, kernel %s, %s\n' "$(nproc)" "$(free -h | awk '/^Mem:/ { print $2 }')" "$(uname -r)" "$(date -u +%F)"
