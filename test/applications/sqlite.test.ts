import { fileURLToPath } from 'node:url'
import { application, run } from './support.ts'

const writer = fileURLToPath(new URL('sqlite-writer.py', import.meta.url))

/** Four writers at once, one of them killed with -9 after 20 transactions; $3 the writer, $4 the journal mode, $5 transactions each. */
const text = `
db=$1/bank.sqlite
sqlite3 "$db" "pragma journal_mode=$4; create table accounts (id integer primary key, balance int); create table log (writer, number, ballast);
  with recursive n(i) as (select 0 union all select i + 1 from n where i < 99) insert into accounts select i, 0 from n" >/dev/null
touch "$2/victim" # looked at below, perhaps before who writes it has been started
python3 "$3" "$db" "$4" victim 1000000 >"$2/victim" & victim=$!
writers=
for name in a b c; do python3 "$3" "$db" "$4" $name "$5" >"$2/$name" & writers="$writers $!"; done
for i in $(seq 1200); do [ "$(wc -l <"$2/victim")" -lt 20 ] || break; sleep 0.1; done
[ "$4" != wal ] || [ -e "$db-shm" ]
kill -9 $victim; wait $victim || true
for pid in $writers; do wait $pid; done
[ "$(sqlite3 "$db" "select count(*) from log where writer != 'victim'")" = $((3 * $5)) ]
[ "$(sqlite3 "$db" "select count(*) from log where writer = 'victim'")" -ge "$(wc -l <"$2/victim")" ]
[ "$(sqlite3 "$db" 'select sum(balance) from accounts')" = 0 ]
[ "$(sqlite3 "$db" 'pragma integrity_check')" = ok ]
`

for (const [mode, count] of [
  ['wal', '300'],
  ['delete', '60'],
] as const)
  application(
    `SQLite, journal mode ${mode}: four processes write, one is killed with -9: nothing committed is lost`,
    ['sqlite3', 'python3'],
    async ({ mountpoint, host }) => {
      await run(text, mountpoint, host, writer, mode, count)
    },
  )
