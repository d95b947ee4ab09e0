/**
 * The memory test: the service and those who write into its volumes under memory limits, apart or in one group.
 * Keeps: the writers write several times of what they may hold; whoever makes no headway for `limitMs` is said to hang, with where
 *   each process waits; what was written is there by its hash after a remount. As a program, `node test/system/memory.ts MIB [SEED]`,
 *   it tries every arrangement with that much for each of four writers.
 */
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { abortConnection, listMounts } from '../../src/fuse/index.ts'
import { MemoryGroup } from '../faults/memory-group.ts'
import { Service, withRoots } from './support.ts'

const writerProgram = fileURLToPath(new URL('../faults/memory-writer.py', import.meta.url))
const MIB = 2 ** 20

/** Who is limited: service and writers each in a group of their own, both in one, the writers only. */
export type Arrangement = 'apart' | 'together' | 'writers'

/** What a writer does (memory-writer.py). */
export const kinds = ['files', 'synced', 'large', 'mapped'] as const
export type Kind = (typeof kinds)[number]

export interface Pressure {
  readonly arrangement: Arrangement
  /** The writers, all at once; they are spread over the volumes. */
  readonly kinds: readonly Kind[]
  readonly volumes: number
  /** What each writer writes. */
  readonly bytes: number
  /** The limit of each group. */
  readonly limitBytes: number
  /** How long all writers may take. */
  readonly limitMs: number
  readonly seed: number
}

export interface PressureReport {
  readonly seconds: number
  readonly files: number
  /** The most that each group had in use, pages of files included, in MiB. */
  readonly peaksMib: readonly number[]
}

type Groups = Readonly<Record<'service' | 'writers', MemoryGroup | undefined>>

/** What a limited command needs to know. */
interface Limits extends Groups {
  readonly limitMs: number
  readonly mountRoot: string
}

/** Writes under pressure; fails when somebody hangs, is killed or sees an error, or when anything is lost. */
export async function writeUnderPressure(pressure: Pressure): Promise<PressureReport> {
  const groups = makeGroups(pressure)
  const all = [...new Set(Object.values(groups))].filter((group) => group !== undefined)
  let report: PressureReport | undefined
  try {
    await withRoots(async (roots) => {
      const service = await Service.start(roots, {}, groups.service?.launcher)
      try {
        report = { ...(await run(service, pressure, groups)), peaksMib: all.map(({ peakBytes = 0 }) => Math.round(peakBytes / MIB)) }
        assert.deepEqual(all.map(({ kills }) => kills), all.map(() => 0), 'nobody was killed for want of memory') // prettier-ignore
        await service.stop()
      } finally {
        if (service.child.exitCode === null) service.child.kill('SIGKILL')
      }
    })
  } finally {
    for (const group of all) await group.close()
  }
  if (report === undefined) throw new Error('the run did not end')
  return report
}

function makeGroups({ arrangement, limitBytes }: Pressure): Groups {
  const writers = MemoryGroup.make(limitBytes)
  switch (arrangement) {
    case 'apart':
      return { service: MemoryGroup.make(limitBytes), writers }
    case 'together':
      return { service: writers, writers }
    case 'writers':
      return { service: undefined, writers }
    default:
      return arrangement satisfies never
  }
}

async function run(service: Service, pressure: Pressure, groups: Groups): Promise<Omit<PressureReport, 'peaksMib'>> {
  const ids = await Promise.all(Array.from({ length: pressure.volumes }, (_, n) => service.create(`v${String(n)}`)))
  const mountpoints = await Promise.all(ids.map((id) => service.mount(id)))
  const folderOf = (at: number): string => join(mountpoints[at % mountpoints.length] ?? '', `writer${String(at)}`)
  const limits = { ...groups, limitMs: pressure.limitMs, mountRoot: service.roots.mountRoot }
  const begin = performance.now()
  const sums = await Promise.all(
    pressure.kinds.map((kind, at) => write(kind, folderOf(at), pressure.bytes, String(pressure.seed + at), limits)),
  )
  const seconds = (performance.now() - begin) / 1000
  for (const id of ids) assert.equal((await service.call('GET', `/volumes/${id}/mount`)).body['restarts'], 0, 'no FUSE process died')
  for (const id of ids) assert.equal((await service.call('DELETE', `/volumes/${id}/mount`)).status, 204)
  for (const id of ids) await service.mount(id)
  await Promise.all(sums.map((list, at) => compare(list, folderOf(at), limits)))
  return { seconds, files: sums.reduce((sum, list) => sum + Object.keys(list).length, 0) }
}

/** Lets one write to its end; returns hash by name. */
async function write(kind: Kind, folder: string, bytes: number, seed: string, limits: Limits): Promise<Record<string, string>> {
  const output = await runLimited(['python3', writerProgram, kind, folder, String(bytes), seed], limits)
  return JSON.parse(output) as Record<string, string>
}

/** Reads everything again, under the same limit. */
async function compare(sums: Readonly<Record<string, string>>, folder: string, limits: Limits): Promise<void> {
  const list = Object.entries(sums).map(([name, sum]) => `${sum}  ${folder}/${name}\n`).join('') // prettier-ignore
  await runLimited(['sha256sum', '--check', '--strict', '--quiet'], limits, list)
}

/** Runs a command in the writers' group; returns its output. Fails with where everybody waits when it does not end in time. */
async function runLimited(command: readonly string[], { limitMs, mountRoot, writers }: Limits, input = ''): Promise<string> {
  const [program = '', ...args] = [...(writers?.launcher ?? []), ...command]
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] })
  let waits: string | undefined
  const timer = setTimeout(() => {
    waits = whereAllWait()
    child.kill('SIGKILL')
    freeMounts(mountRoot)
  }, limitMs)
  try {
    const [output, complaints, [code, signal]] = await Promise.all([text(child.stdout), text(child.stderr), endOf(child, input)])
    assert.equal(waits, undefined, `${command.join(' ')} hangs:\n${waits ?? ''}`)
    assert.equal(signal ?? code, 0, `${command.join(' ')}: ${complaints}`)
    return output
  } finally {
    clearTimeout(timer)
  }
}

function endOf(child: ChildProcess, input: string): Promise<[number | null, string | null]> {
  child.stdin?.on('error', () => undefined) // it has ended: its exit says how
  child.stdin?.end(input)
  return once(child, 'exit') as Promise<[number | null, string | null]>
}

/** Each thread that waits in the kernel without end (state D), and what it waits for. */
function whereAllWait(): string {
  const lines = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => listThreads(pid).map((thread) => describeThread(pid, thread)))
  return lines.filter((line) => line !== undefined).join('\n')
}

function listThreads(pid: string): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`)
  } catch {
    return [] // it has ended since
  }
}

function describeThread(pid: string, thread: string): string | undefined {
  const folder = `/proc/${pid}/task/${thread}`
  try {
    if (!readFileSync(`${folder}/stat`, 'utf8').includes(') D ')) return undefined
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
    return `${pid}/${thread} ${command.slice(0, 80)}\n${readFileSync(`${folder}/stack`, 'utf8')}`
  } catch {
    return undefined // it has ended since
  }
}

/** Ends the connections of the mounts, so that nobody goes on hanging. */
function freeMounts(mountRoot: string): void {
  for (const { mountpoint, minor } of listMounts()) if (mountpoint.startsWith(`${mountRoot}/`)) abortConnection(minor)
}

/** One line of figures. */
export function describe({ seconds, files, peaksMib }: PressureReport): string {
  return `${String(files)} files in ${seconds.toFixed(1)} s, all there; at most ${peaksMib.join(' and ')} MiB in use`
}

/** What the program tries: four mounts need more than 300 MiB for their processes alone. */
const trials = [
  { arrangement: 'apart', volumes: 1 },
  { arrangement: 'together', volumes: 1 },
  { arrangement: 'writers', volumes: 4 },
] as const

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [mib = 384, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number)
  const size = { bytes: mib * MIB, limitBytes: 300 * MIB, limitMs: 1_800_000 }
  const reason = MemoryGroup.whyNone()
  if (reason !== false) console.log(`nothing is tried: ${reason}`)
  else
    for (const trial of trials) {
      const report = await writeUnderPressure({ ...trial, ...size, kinds, seed })
      console.log(`${trial.arrangement}, ${String(trial.volumes)} mounted, seed ${String(seed)}: ${describe(report)}`)
    }
}
