/**
 * The command `litevol`: its commands and options, and the exit codes of what goes wrong.
 * Keeps: bad usage is one line and exit 2; any other error one line and exit 1. Modules of a command are loaded when it runs.
 * Leaves: what a command does to its own file.
 */
import { readFileSync } from 'node:fs'
import { Command, CommanderError, Option } from 'commander'
import { ErrnoError, messageOf } from '../base/index.ts'
import { ConfigError, settingNames, settings, type Config, type SettingName } from '../config.ts'
import type { CheckFlags } from './check.ts'
import { exitCodes } from './exit-codes.ts'
import { parseMountOptions, type MountOptions } from './mount-options.ts'

const program = new Command('litevol')
  .description('A volume manager for containers: every volume is a complete filesystem in one SQLite file.')
  .version(readVersion())
  .exitOverride()
  .configureOutput({ outputError: (text, write) => { write(text.replace(/^error: /, 'litevol: ')) } }) // prettier-ignore

addServe(program)

program
  .command('mount')
  .description('mount one volume file and serve it until it is unmounted; in the foreground also until SIGTERM or Ctrl-C')
  .argument('<file>', 'volume file')
  .argument('<mountpoint>', 'existing directory')
  .option('--create', 'make the volume file first')
  .option('--read-only', 'refuse every change; the same as -o ro')
  .option('--background', 'return as soon as it serves; log lines go to syslog, or to the file of -o log=FILE')
  .option(
    '-o, --options <words>',
    "words of mount(8), and litevol's own: create, low_latency, nolow_latency, log=FILE, driver=NAME",
    (word, words: string[]) => [...words, word],
    [],
  )
  .option('--sloppy', 'pass over unknown words of -o')
  .addOption(new Option('--driver <driver>', 'FUSE driver: direct or fuse-native').env(settings.driver.env).default('direct'))
  .addOption(new Option('--log-level <level>', settings.logLevel.meaning).env(settings.logLevel.env).default('warn'))
  .action(async (file: string, mountpoint: string, flags: MountFlags) => {
    const options = readMountOptions(flags)
    const { mountFile } = await import('./mount.ts')
    process.exitCode = await mountFile(file, mountpoint, {
      ...options,
      isBackground: flags.background ?? false,
      driver: options.driver ?? parse('driver', flags.driver),
      logLevel: parse('logLevel', flags.logLevel),
    })
  })

program
  .command('check')
  .description('prove a volume file consistent, changing nothing; exit 0: sound, 1: something is wrong, 2: it cannot be checked')
  .argument('<file>', 'volume file')
  .option('--deep', 'also every chunk against its address: reads the whole file')
  .option('--force', 'also while somebody has it open: its last commit is checked, and its WAL grows meanwhile')
  .option('--json', 'print {file, deep, findings: [{rule, place}]}')
  .action(async (file: string, { deep = false, force = false, json = false }: Partial<CheckFlags>) => {
    const { checkFile } = await import('./check.ts')
    process.exitCode = await checkFile(file, { deep, force, json })
  })

interface MountFlags {
  readonly create?: boolean
  readonly readOnly?: boolean
  readonly background?: boolean
  readonly options: readonly string[]
  readonly sloppy?: boolean
  readonly driver: string
  readonly logLevel: string
}

addStore(program)

/** The flags and the words of -o together. */
function readMountOptions({ create = false, readOnly = false, options, sloppy = false }: MountFlags): MountOptions {
  const words = [...options, ...(create ? ['create'] : []), ...(readOnly ? ['ro'] : [])]
  return parseMountOptions(words.join(','), sloppy)
}

interface StoreFlags {
  readonly dataRoot: string
  readonly json?: boolean
}

try {
  await program.parseAsync()
} catch (error) {
  process.exitCode = report(error)
}

/** One flag for each row of the table of settings. */
function addServe(parent: Command): void {
  const serve = parent.command('serve').description('run the manager: the HTTP service that provisions, mounts and exports volumes')
  for (const name of settingNames) {
    const { flag, env, meaning, default: fallback, ...rest } = settings[name]
    const value = 'isSwitch' in rest ? '' : ` <${name}>`
    serve.option(flag + value, `${meaning} (${env}${fallback === '' ? '' : `, default ${fallback}`})`)
  }
  serve.action(async (flags: Readonly<Record<string, string | boolean>>) => {
    const { serveUntilSignal } = await import('./serve.ts')
    await serveUntilSignal(textsOf(flags))
  })
}

function addStore(parent: Command): void {
  const store = parent.command('store').description('look at the store of volume records, also while a manager runs')
  const { flag, env, meaning, default: fallback } = settings.dataRoot
  const dataRoot = (): Option => new Option(`${flag} <dataRoot>`, meaning).env(env).default(fallback)
  store
    .command('log')
    .description('print the history of changes: who, when, what')
    .option('--json', 'one JSON object a line, with the patch')
    .addOption(dataRoot())
    .action(async (flags: StoreFlags) => {
      const { printHistory } = await import('./store.ts')
      printHistory(parse('dataRoot', flags.dataRoot), flags.json === true)
    })
  store
    .command('check')
    .description('verify every line and change')
    .addOption(dataRoot())
    .action(async (flags: StoreFlags) => {
      const { printCheck } = await import('./store.ts')
      printCheck(parse('dataRoot', flags.dataRoot))
    })
}

/** Commander names a flag's value after the flag in camelCase; the table has its own names. */
function textsOf(flags: Readonly<Record<string, string | boolean>>): Partial<Record<SettingName, string>> {
  const texts: Partial<Record<SettingName, string>> = {}
  for (const name of settingNames) {
    const value = flags[new Option(settings[name].flag).attributeName()]
    if (value !== undefined) texts[name] = value === true ? '1' : String(value)
  }
  return texts
}

/** The value of a flag that another command than `serve` shares with the table of settings. */
function parse<N extends 'dataRoot' | 'driver' | 'logLevel'>(name: N, text: string): Config[N] {
  const { parse: read, flag, allowed } = settings[name]
  const value = read(text)
  if (value === undefined) throw new ConfigError(`${flag}: '${text}' is wrong, must be ${allowed}`)
  return value as Config[N] // each row parses its own setting
}

/** Commander has printed its own errors, help and version. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage
  const hint = error instanceof ErrnoError && error.hint !== undefined ? ` (${error.hint})` : ''
  process.stderr.write(`litevol: ${messageOf(error)}${hint}\n`)
  return error instanceof ConfigError ? exitCodes.usage : exitCodes.failed
}

function readVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : 'unknown'
}
