/**
 * The kill tests as a program: `node test/system/kills.ts [KILLS [SEED [MODE...]]]`, without a mode all of them, one after the other.
 * Keeps: each prints a line of figures, or fails; the seed replays the moments of the kills.
 */
import { fileURLToPath } from 'node:url'
import { killManagers } from './kills/managers.ts'
import { killMounts } from './kills/mounts.ts'
import { killProcesses } from './kills/processes.ts'
import { describe, type KillReport } from './kills/report.ts'

/** What is killed: the FUSE process, three ways to replace it; the whole mount; the manager, with or without the others. */
export const modes: Readonly<Record<string, (kills: number, seed: number) => Promise<KillReport>>> = {
  standby: (kills, seed) => killProcesses(kills, seed, 'standby'),
  cold: (kills, seed) => killProcesses(kills, seed, 'cold'),
  'no-resend': (kills, seed) => killProcesses(kills, seed, 'no-resend'),
  mount: killMounts,
  manager: killManagers,
}

async function main([kills = '200', seed = String(Date.now() % 1_000_000), ...names]: readonly string[]): Promise<void> {
  for (const name of names.length > 0 ? names : Object.keys(modes)) {
    const run = modes[name]
    if (run === undefined) throw new Error(`no mode '${name}': ${Object.keys(modes).join(', ')}`)
    console.log(`${name}, seed ${seed}: ${describe(await run(Number(kills), Number(seed)))}`)
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2))
