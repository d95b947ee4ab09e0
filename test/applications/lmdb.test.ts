import { fileURLToPath } from 'node:url'
import { application, run } from './support.ts'

const worker = fileURLToPath(new URL('lmdb-worker.py', import.meta.url))

/** Three processes at once, one killed with -9, so that the next one meets its lock in the shared mapping; $3 the worker, $4 writemap.
 *  Debian's Python has the module, another on the path may not. */
const text = `
db=$1/store; python=/usr/bin/python3
$python "$3" "$db" first 5 "$4" >/dev/null
$python "$3" "$db" victim 1000000 "$4" >"$2/victim" & victim=$!
$python "$3" "$db" a 150 "$4" >/dev/null & a=$!
$python "$3" "$db" b 150 "$4" >/dev/null & b=$!
for i in $(seq 1200); do [ "$(wc -l <"$2/victim")" -lt 20 ] || break; sleep 0.1; done
kill -9 $victim; wait $victim || true
wait $a; wait $b
count() { $python -c 'import lmdb, sys
with lmdb.open(sys.argv[1], readonly=True, lock=False).begin() as t: print(int(t.get(sys.argv[2].encode())))' "$db" "$1"; }
[ "$(count 'rounds of a')" = 150 ] && [ "$(count 'rounds of b')" = 150 ]
victims=$(count 'rounds of victim')
[ "$victims" -ge "$(wc -l <"$2/victim")" ]
[ "$(count total)" = $((305 + victims)) ]
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
