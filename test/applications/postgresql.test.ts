import { script } from './support.ts'

/** PostgreSQL does not run as root: everything but the folder's making is done as its own user. */
const setUp = `
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1); base=$1/pg; data=$base/data
export LC_ALL=C.UTF-8 PGHOST=$base PGDATABASE=postgres PGUSER=postgres PATH=$bin:$PATH
install -d -o postgres -g postgres -m 700 "$base"; cd "$base"
as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
start() { as pg_ctl -D "$data" -w -t 60 -l "$base/log" -o "-c listen_addresses= -c unix_socket_directories=$base $*" start >"$base/start" || { cat "$base/log"; false; }; }
sql() { as psql -XAtq -c "$1"; }
stop() { as pg_ctl -D "$data" -w -m "$1" stop >/dev/null; }
trap 'as pg_ctl -D "$data" -m immediate stop >/dev/null 2>&1 || true' EXIT
as initdb -D "$data" -A trust >/dev/null
[ "$(stat -c '%U %a' "$data")" = 'postgres 700' ]
start
as pgbench -i -q -s 2 2>/dev/null
sql 'create extension amcheck'
# What pgbench promises of its transactions: each adds the same delta to an account, a teller, a branch and the history.
consistent() {
  [ "$(sql 'select (select sum(abalance) from pgbench_accounts) = all (array[(select sum(tbalance) from pgbench_tellers),
    (select sum(bbalance) from pgbench_branches), (select coalesce(sum(delta), 0) from pgbench_history)])')" = t ]
  as pg_amcheck --heapallindexed -j 2 postgres
}
`

const programs = ['setpriv', 'pg_ctlcluster']

script(
  'PostgreSQL: initdb, pgbench with four clients, a fast stop and a start: every transaction is there, pg_amcheck finds nothing',
  programs,
  `${setUp}
  as pgbench -n -c 4 -j 2 -T 4 >"$2/bench"
  done=$(sed -n 's/^number of transactions actually processed: //p' "$2/bench")
  [ "$done" -gt 0 ]
  consistent; stop fast; start
  [ "$(sql 'select count(*) from pgbench_history')" = "$done" ]
  consistent; stop fast`,
)

script(
  'PostgreSQL: kill -9 of the postmaster under pgbench: it recovers, and every acknowledged transaction is there',
  programs,
  `${setUp}
  install -d -o postgres "$2/logs"; cd "$2/logs"
  # One line of log for each transaction that pgbench was told is committed.
  as pgbench -n -c 4 -j 2 -T 120 -l --log-prefix="$2/logs/t" >/dev/null 2>&1 & bench=$!
  for i in $(seq 1200); do [ "$(sql 'select count(*) > 300 from pgbench_history')" = f ] || break; sleep 0.1; done
  kill -9 "$(head -n 1 "$data/postmaster.pid")"
  wait $bench && { echo 'pgbench did not notice'; false; }
  acknowledged=$(cat "$2"/logs/t.* | wc -l)
  [ "$acknowledged" -gt 100 ]
  # The orphaned backends end by themselves, and until then a new server refuses the folder.
  for i in $(seq 100); do start 2>/dev/null >/dev/null && break; sleep 0.1; done
  grep -q 'database system was not properly shut down' "$base/log"
  [ "$(sql 'select count(*) from pgbench_history')" -ge "$acknowledged" ]
  consistent; stop fast`,
)
