import { script } from './support.ts'

const setUp = `
dir=$1/redis; mkdir "$dir"; server=
cli() { redis-cli -s "$dir/socket" "$@"; }
start() {
  redis-server --dir "$dir" --port 0 --unixsocket "$dir/socket" --appendonly yes --appendfsync always --save '' \\
    --enable-debug-command local >>"$2/log" & server=$!
  for i in $(seq 300); do [ "$(cli ping 2>/dev/null)" != PONG ] || return 0; sleep 0.1; done
  cat "$2/log"; false
}
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null || true' EXIT
start "$@"
load() { redis-benchmark -s "$dir/socket" -q -c 20 -n 2000 -r 100000 -t set,lpush,sadd,hset,zadd >/dev/null; }
state() { echo "$(cli dbsize) $(cli debug digest)"; }
`

const programs = ['redis-server', 'redis-cli', 'redis-benchmark', 'redis-check-aof']

script(
  'Redis with an append-only file, fsync always: after a rewrite of it, a shutdown and a start everything is the same',
  programs,
  `${setUp}
  load; cli bgrewriteaof >/dev/null; load
  for i in $(seq 300); do cli info persistence | grep -q aof_rewrite_in_progress:1 || break; sleep 0.1; done
  cli info persistence | grep -q aof_last_bgrewrite_status:ok
  before=$(state); [ "\${before%% *}" -gt 1000 ]
  cli shutdown; wait $server
  redis-check-aof "$dir"/appendonlydir/*.manifest >/dev/null
  start "$@"; [ "$(state)" = "$before" ]
  cli shutdown; wait $server`,
)

script(
  'Redis with an append-only file, fsync always: kill -9 under writers: every acknowledged write is there at the next start',
  programs,
  `${setUp}
  # Each line of the log is a number that INCR answered.
  touch "$2/acknowledged"
  while n=$(cli incr n 2>/dev/null); do echo "$n"; done >"$2/acknowledged" & writer=$!
  load & others=$!
  for i in $(seq 1200); do [ "$(wc -l <"$2/acknowledged")" -le 200 ] || break; sleep 0.1; done
  kill -9 $server; wait $server $writer $others || true
  acknowledged=$(grep -c '^[0-9]' "$2/acknowledged")
  [ "$acknowledged" -gt 200 ]
  start "$@"; [ "$(cli get n)" -ge "$acknowledged" ]
  cli shutdown; wait $server`,
)
