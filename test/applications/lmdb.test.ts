import { fileURLToPath } from 'node:url'
import { application, run } from './support.ts'

const worker = fileURLToPath(new URL('lmdb-worker.py', import.meta.url))

/** Three processes at once, one killed with -9 in a transaction, so that the next one meets its lock in the shared mapping; $3 the worker,
 *  $4 writemap. Killed at any moment it could be the one just woken to take the lock: if another takes it first, those who still wait
 *  are never woken (handle_futex_death of kernel/futex/core.c wakes others only while the lock is free), on every filesystem.
 *  Debian's Python has the module, another on the path may not. */
const text = `
db=$1/store; python=/usr/bin/python3
$python "$3" "$db" first 5 "$4" >/dev/null
$python "$3" "$db" victim 20 "$4" hold >"$2/victim" & victim=$!
$python "$3" "$db" a 150 "$4" >/dev/null & a=$!
$python "$3" "$db" b 150 "$4" >/dev/null & b=$!
for i in $(seq 1200); do ! grep -q holding "$2/victim" || break; sleep 0.1; done
kill -9 $victim; wait $victim || true
wait $a; wait $b
count() { $python -c 'import lmdb, sys
with lmdb.open(sys.argv[1], readonly=True, lock=False).begin() as t: print(int(t.get(sys.argv[2].encode())))' "$db" "$1"; }
[ "$(count 'rounds of a') $(count 'rounds of b') $(count 'rounds of victim') $(count total)" = '150 150 20 325' ]
# A copy reads every page.
$python -c 'import lmdb, sys; lmdb.open(sys.argv[1], readonly=True).copy(sys.argv[2], compact=True)' "$db" "$(mktemp -d -p "$2")"
`

for (const [writeMap, how] of [
  ['0', 'read through a shared mapping'],
  ['1', 'read and written through a shared mapping'],
] as const)
  application(
    `LMDB, ${how}: three processes, one killed with -9: nothing committed is lost, nothing is mixed up`,
    ['/usr/bin/python3', '/usr/lib/python3/dist-packages/lmdb'],
    async ({ mountpoint, host }) => {
      await run(text, mountpoint, host, worker, writeMap)
    },
  )
