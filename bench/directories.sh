#!/usr/bin/env bash
# bench/directories.sh: what an entry costs in a small and in a large directory of a litevol mount: to make, to list, to list with
# attributes, to delete. An entry of the large one may cost at most twice as much.
# Keeps: three rounds, interleaved; the caches are dropped before listing and before deleting; prints medians in microseconds per entry
#   and their ratio; everything lies under one temporary folder and is gone afterwards, also after an error or a signal.
# Settings: BENCH_DIR (where, default the disk of /var/tmp), BENCH_ROUNDS (3), BENCH_SMALL (1000), BENCH_LARGE (100000).
set -euo pipefail
root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
rounds=${BENCH_ROUNDS:-3}
sizes=("${BENCH_SMALL:-1000}" "${BENCH_LARGE:-100000}")

die() { echo "bench: $*" >&2; exit 1; }
[[ $(id -u) == 0 ]] || die 'root is needed, to mount and to drop the page cache'
for program in python3 mountpoint; do command -v "$program" >/dev/null || die "$program is missing"; done

work=$(mktemp -d "${BENCH_DIR:-/var/tmp}/litevol-bench.XXXXXX")
mkdir "$work/mount"
pid=
cleanup() {
  if timeout 10 mountpoint -q "$work/mount"; then timeout 120 umount "$work/mount" || timeout 10 umount -l "$work/mount" || true; fi
  if [[ -n $pid ]]; then
    for _ in {1..300}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  fi
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

"$root/bin/litevol" --version >/dev/null # installs what is missing, so that waiting does not
"$root/bin/litevol" mount --create "$work/volume.sqlite" "$work/mount" >"$work/log" 2>&1 </dev/null &
pid=$!
for _ in {1..300}; do
  timeout 10 mountpoint -q "$work/mount" && break
  kill -0 "$pid" 2>/dev/null || die "nothing serves the mount: $(tail -n 5 "$work/log")"
  sleep 0.1
done

# One process for all, so that no start of a program is counted.
timeout 1800 python3 - "$work/mount" "$rounds" "${sizes[@]}" <<'P'
import os, statistics, sys, time
mount, rounds, sizes = sys.argv[1], int(sys.argv[2]), [int(n) for n in sys.argv[3:]]
values = {}

def drop_caches():
    os.sync()
    with open('/proc/sys/vm/drop_caches', 'w') as f:
        f.write('3')

def timed(case, size, work):
    start = time.perf_counter()
    result = work()
    values.setdefault((case, size), []).append((time.perf_counter() - start) / size * 1e6)
    return result

def make(directory, size):
    for i in range(size):
        os.close(os.open(f'{directory}/file-{i}', os.O_CREAT | os.O_WRONLY, 0o644))

for round in range(rounds):
    for size in sizes:
        directory = f'{mount}/d'
        os.mkdir(directory)
        timed('create', size, lambda: make(directory, size))
        drop_caches()
        names = timed('list', size, lambda: os.listdir(directory))
        assert len(set(names)) == size, f'{len(names)} entries of {size} were listed'
        drop_caches()
        timed('list with attributes', size, lambda: [entry.stat() for entry in os.scandir(directory)])
        drop_caches()
        timed('delete', size, lambda: [os.unlink(f'{directory}/{name}') for name in names])
        os.rmdir(directory)
        print(f'bench: round {round + 1} of {rounds}: {size} entries', file=sys.stderr)

small, large = sizes
print(f'| case | µs per entry of {small:,} | of {large:,} | ratio |\n|---|--:|--:|--:|')
for case in ('create', 'list', 'list with attributes', 'delete'):
    a, b = (statistics.median(values[case, size]) for size in sizes)
    print(f'| {case} | {a:,.1f} | {b:,.1f} | {b / a:.2f} |')
P
printf '\n%s rounds, medians. %s cores, %s, kernel %s, %s\n' "$rounds" "$(nproc)" "$(free -h | awk '/^Mem:/ { print $2 }')" "$(uname -r)" "$(date -u +%F)"
