/**
 * What a store of 10,000 volumes costs: `node bench/store.ts`, as root. Starts `litevol serve` on a data root without volumes, on one with
 * 10,000 just compacted, and on one with 10,000 and as many changes since as a store gathers at most; then creates volumes over HTTP.
 * Keeps: three rounds, interleaved, so that a slow minute hits all alike; prints medians; everything lies under one temporary folder
 *   (BENCH_DIR, default /var/tmp) and is gone afterwards. The volume files are links to one: a start reads their names only.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { request, type IncomingMessage } from 'node:http'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { makeLogger, uuidText, uuidv7 } from '../src/base/index.ts'
import { createVolumeFile } from '../src/engine/index.ts'
import { JournalStore, type VolumeRecord } from '../src/manager/index.ts'

const rounds = 3
const volumes = 10_000
const creates = 20

const work = mkdtempSync(join(process.env['BENCH_DIR'] ?? '/var/tmp', 'litevol-bench-store-'))
const main = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))
const who = 'http 127.0.0.1'

interface Round {
  readonly startMs: number
  /** Of the process, until it listens: what another load of the machine hardly changes. */
  readonly cpuMs: number
  readonly createMs: number
}

try {
  await run()
} finally {
  rmSync(work, { recursive: true, force: true })
}

async function run(): Promise<void> {
  const roots = [
    ['no volumes', prepare('none', 0, 0)],
    ['10,000 volumes, compacted', prepare('compacted', volumes, 0)],
    ['10,000 volumes and 9,800 changes', prepare('changes', volumes, 9800)],
  ] as const
  const results = new Map<string, Round[]>(roots.map(([label]) => [label, []]))
  for (let round = 0; round < rounds; round++) {
    for (const [label, root] of roots) results.get(label)?.push(await measure(root))
  }
  console.log('| data root | store, bytes | start to listening, ms | of it CPU, ms | POST /volumes, ms |\n|---|--:|--:|--:|--:|')
  for (const [label, root] of roots) {
    const taken = results.get(label) ?? []
    const [start, cpu, create] = (['startMs', 'cpuMs', 'createMs'] as const).map((key) => median(taken.map((round) => round[key])))
    const bytes = statSync(join(root, 'volumes.jsonl')).size.toLocaleString('en')
    console.log(`| ${label} | ${bytes} | ${(start ?? 0).toFixed(0)} | ${(cpu ?? 0).toFixed(0)} | ${(create ?? 0).toFixed(1)} |`)
  }
  console.log(`\n${String(rounds)} rounds, medians; ${String(cpus().length)} cores, Node ${process.version}`)
}

/** Makes a data root with so many volumes, and so many changes of them after the snapshot; none of them is mounted at the start. */
function prepare(name: string, count: number, changes: number): string {
  const root = join(work, name)
  mkdirSync(join(root, 'volumes'), { recursive: true })
  const model = join(work, `${name}.litevol`)
  createVolumeFile(model)
  const records = Array.from({ length: count }, (_, index) => makeRecord(index))
  for (const { file } of records) linkSync(model, join(root, 'volumes', file))
  withStore(root, 1, (store) => {
    store.transact({ who, action: 'create all' }, (draft) => { for (const record of records) draft.insert(record) }) // prettier-ignore
  })
  withStore(root, 1_000_000, (store) => {
    for (let change = 0; change < changes; change++) {
      const { id, name: label } = records[Math.floor(change / 2)] ?? makeRecord(0)
      const persist = change % 2 === 0 ? { readOnly: false } : null
      store.transact({ who, action: `remember the mount of volume ${label}` }, (draft) => { draft.update(id, { persist }) }) // prettier-ignore
    }
  })
  return root
}

function makeRecord(index: number): VolumeRecord {
  const id = uuidText(uuidv7())
  return {
    id,
    name: `volume-${String(index)}`,
    file: `${id}.litevol`,
    createdAt: new Date().toISOString(),
    encrypted: false,
    persist: null,
    attachments: null,
  }
}

function withStore(root: string, compactAfter: number, use: (store: JournalStore) => void): void {
  const store = JournalStore.open(root, makeLogger('bench', 'error'), { compactAfter })
  try {
    use(store)
  } finally {
    store.close()
  }
}

/** Starts the service on the root, creates volumes, deletes them again, and stops it. */
async function measure(root: string): Promise<Round> {
  const socket = join(work, 'api.sock')
  const mountRoot = join(work, 'mnt')
  mkdirSync(mountRoot, { recursive: true })
  const begin = performance.now()
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main, 'serve'], {
    env: {
      ...process.env,
      LITEVOL_DATA_ROOT: root,
      LITEVOL_MOUNT_ROOT: mountRoot,
      LITEVOL_RUN_DIR: join(work, 'run'),
      LITEVOL_SOCKET: socket,
      LITEVOL_LOG_LEVEL: 'error',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exit = once(child, 'exit')
  try {
    for await (const line of createInterface({ input: child.stdout })) if (line.includes('listening')) break
    const startMs = performance.now() - begin
    const cpuMs = readCpuMs(child.pid)
    return { startMs, cpuMs, createMs: await measureCreates(socket) }
  } finally {
    child.kill('SIGTERM')
    await exit
  }
}

/** utime and stime of proc(5), in hundredths of a second. */
function readCpuMs(pid: number | undefined): number {
  const fields =
    readFileSync(`/proc/${String(pid)}/stat`, 'utf8')
      .split(') ')[1]
      ?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) * 10
}

async function measureCreates(socket: string): Promise<number> {
  const times: number[] = []
  for (let n = 0; n < creates; n++) {
    const begin = performance.now()
    const { id } = JSON.parse(await call(socket, 'POST', '/volumes', { name: `new-${String(n)}` })) as { id: string }
    times.push(performance.now() - begin)
    await call(socket, 'DELETE', `/volumes/${id}`)
  }
  return median(times)
}

async function call(socketPath: string, method: string, path: string, body?: object): Promise<string> {
  const sent = request({ socketPath, method, path, headers: body === undefined ? {} : { 'content-type': 'application/json' } })
  sent.end(body === undefined ? undefined : JSON.stringify(body))
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  const answer = await text(response)
  if ((response.statusCode ?? 500) >= 300) throw new Error(`${method} ${path}: ${answer}`)
  return answer
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}
