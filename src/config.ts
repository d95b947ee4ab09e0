/**
 * Every setting of litevol as one table: variable, flag, default, what is allowed, what it means; and reading them.
 * Keeps: a configuration is whole and valid, or a ConfigError names the variable or flag, its value and what is allowed.
 * Leaves: acting on the settings to main.ts, asking the machine whether they can work to manager/preflight.ts.
 */
import { readFileSync, statSync } from 'node:fs'
import { isAbsolute, resolve } from 'node:path'
import { driverNames, logLevels, lowLatencyModes, messageOf } from './base/index.ts'

/** One setting: how it is given and what its text may be. */
interface Setting<T> {
  /** The environment variable. */
  readonly env: string
  /** The flag of `litevol serve`, with two dashes. */
  readonly flag: string
  /** What holds without variable and flag, as text; empty: nothing. */
  readonly default: string
  readonly meaning: string
  /** What a text must be, as the end of "must be …". */
  readonly allowed: string
  /** True for a flag that takes no value. */
  readonly isSwitch?: boolean
  /** The value of a text, or undefined when it is not allowed. */
  readonly parse: (text: string) => T | undefined
}

/** All settings, by the name they have in the code. */
export const settings = {
  host: text('LITEVOL_HOST', '127.0.0.1', 'address to listen on; anything but loopback needs a token file or LITEVOL_INSECURE=1'),
  port: number('LITEVOL_PORT', '8080', [0, 65535], 'TCP port to listen on; 0 takes a free one'),
  socket: path('LITEVOL_SOCKET', '', 'unix socket to listen on instead of host and port'),
  pluginSocket: path(
    'LITEVOL_PLUGIN_SOCKET',
    '',
    'unix socket of the Docker volume driver, usually /run/docker/plugins/litevol.sock; default: none',
  ),
  dataRoot: path('LITEVOL_DATA_ROOT', '/var/lib/litevol', 'folder of the store and of the volume files'),
  mountRoot: path('LITEVOL_MOUNT_ROOT', '/mnt/litevol', 'folder of the mountpoints, as the manager sees it'),
  hostMountRoot: path(
    'LITEVOL_HOST_MOUNT_ROOT',
    '',
    'the mount root as the host of this container sees it; given, mounts must reach that host',
  ),
  runRoot: path('LITEVOL_RUN_DIR', '/run/litevol', 'folder on tmpfs for what the processes of a mount share while it lasts'),
  logLevel: choice('LITEVOL_LOG_LEVEL', 'info', logLevels, 'least severe level that is logged'),
  driver: choice(
    'LITEVOL_DRIVER',
    'direct',
    driverNames,
    'FUSE driver of a mount that names none: direct, or fuse-native (docs/drivers.md)',
  ),
  standby: choice(
    'LITEVOL_STANDBY',
    'on',
    ['on', 'off'],
    'whether a loaded successor of each FUSE process waits: a shorter pause, more memory',
  ),
  lowLatency: choice(
    'LITEVOL_LOW_LATENCY',
    'auto',
    lowLatencyModes,
    'whether CPUs that have nothing to do stay awake while a volume is busy: up to twice as fast, more power; auto: in a virtual machine of at most 8 CPUs (docs/performance.md)',
  ),
  tokenFile: path('LITEVOL_TOKEN_FILE', '', 'file with the bearer token that every request but GET /health must bring'),
  insecure: toggle('LITEVOL_INSECURE', 'listen without a token on an address that others can reach'),
  exportLeaseSeconds: number(
    'LITEVOL_EXPORT_LEASE',
    '60',
    [0, 86_400],
    'seconds that a snapshot outlives its last download, so that it can be resumed',
  ),
  exportStallSeconds: number(
    'LITEVOL_EXPORT_STALL',
    '600',
    [0.1, 86_400],
    'seconds after which a download that takes no bytes is broken off',
  ),
  exportWalLimit: number(
    'LITEVOL_EXPORT_WAL_LIMIT',
    '1073741824',
    [1 << 20, 2 ** 50],
    'bytes of WAL that snapshots may cost; they are given up then',
  ),
  mountTimeoutSeconds: number('LITEVOL_MOUNT_TIMEOUT', '10', [0.1, 600], 'seconds in which a mount must be ready', true),
  unmountTimeoutSeconds: number(
    'LITEVOL_UNMOUNT_TIMEOUT',
    '120',
    [0.1, 3600],
    'seconds in which an unmount must have written everything',
    true,
  ),
  stopTimeoutSeconds: number(
    'LITEVOL_STOP_TIMEOUT',
    '8',
    [0.1, 600],
    'seconds after which a stop kills the FUSE processes that have not ended',
    true,
  ),
} as const satisfies Record<string, Setting<unknown>>

export type SettingName = keyof typeof settings
type ValueOf<S> = S extends Setting<infer T> ? T : never

/** Every setting with its value; a path that was not given is empty, but for the host's mount root. */
export type Config = { readonly [N in SettingName]: ValueOf<(typeof settings)[N]> } & {
  /** Whether the host's mount root was given: the host is another mount namespace, which mounts must reach. */
  readonly isHostElsewhere: boolean
}

/** The names of all settings, in the table's order. */
export const settingNames = Object.keys(settings) as SettingName[]

/** What is wrong with the configuration, in one line. The command line exits with 2. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/**
 * Reads the configuration: a flag wins over its variable, an empty variable counts as none.
 * `flags` has texts by setting name. Throws ConfigError.
 */
export function readConfig(env: NodeJS.ProcessEnv, flags: Readonly<Partial<Record<SettingName, string>>> = {}): Config {
  const values: Partial<Record<SettingName, unknown>> = {}
  for (const name of settingNames) values[name] = readSetting(settings[name], env, flags[name])
  const given = values as Omit<Config, 'isHostElsewhere'> // each row was parsed by its own `parse`
  const isHostElsewhere = given.hostMountRoot !== ''
  const config = { ...given, isHostElsewhere, hostMountRoot: isHostElsewhere ? given.hostMountRoot : given.mountRoot }
  assertConsistent(config)
  return config
}

/** Whether only this machine can reach the listener. */
export function isLocal({ host, socket }: Pick<Config, 'host' | 'socket'>): boolean {
  return socket !== '' || host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

/** The token of the token file, without white space around it, and whether others may read the file. Throws ConfigError. */
export function readToken(file: string): { readonly token: string; readonly isExposed: boolean } {
  const name = settings.tokenFile.env
  try {
    const token = readFileSync(file, 'utf8').trim()
    if (token === '') throw new ConfigError(`${name}: ${file} is empty`)
    if (!/^[\x21-\x7e]+$/.test(token)) throw new ConfigError(`${name}: ${file} must hold one token of printable ASCII without spaces`)
    return { token, isExposed: (statSync(file).mode & 0o044) !== 0 }
  } catch (error) {
    if (error instanceof ConfigError) throw error
    throw new ConfigError(`${name}: ${file} cannot be read (${messageOf(error)})`, { cause: error })
  }
}

function readSetting(setting: Setting<unknown>, env: NodeJS.ProcessEnv, flag: string | undefined): unknown {
  const variable = env[setting.env]
  const given = flag ?? (variable === '' ? undefined : variable)
  const value = given === '' ? undefined : setting.parse(given ?? setting.default)
  if (value !== undefined) return value
  const source = flag === undefined ? setting.env : setting.flag
  throw new ConfigError(`${source}: '${given ?? ''}' is wrong, must be ${setting.allowed}`)
}

function assertConsistent(config: Config): void {
  const { host, mountRoot, insecure, tokenFile } = settings
  if (!isLocal(config) && config.tokenFile === '' && !config.insecure) {
    const cure = `must be a loopback address unless ${tokenFile.env} names a token file or ${insecure.env}=1`
    throw new ConfigError(`${host.env}: '${config.host}' can be reached by others, ${cure}`)
  }
  if (config.pluginSocket !== '' && config.pluginSocket === config.socket)
    throw new ConfigError(`${settings.pluginSocket.env}: '${config.pluginSocket}' is wrong, must be another than ${settings.socket.env}`)
  const isWithin = (inner: string, outer: string): boolean => `${inner}/`.startsWith(`${outer}/`)
  if (isWithin(config.dataRoot, config.mountRoot) || isWithin(config.mountRoot, config.dataRoot)) {
    throw new ConfigError(
      `${mountRoot.env}: '${config.mountRoot}' is wrong, must be apart from ${settings.dataRoot.env} (${config.dataRoot})`,
    )
  }
}

function flagOf(env: string): string {
  return `--${env.replace('LITEVOL_', '').toLowerCase().replaceAll('_', '-')}`
}

function text(env: string, fallback: string, meaning: string): Setting<string> {
  const parse = (value: string): string | undefined => (/\s|^-/.test(value) ? undefined : value)
  return { env, flag: flagOf(env), default: fallback, meaning, allowed: 'an address or host name', parse }
}

/** A path; empty only as a default that means none. */
function path(env: string, fallback: string, meaning: string): Setting<string> {
  const parse = (value: string): string | undefined => {
    if (value === '') return ''
    return isAbsolute(value) && !value.includes('\0') ? resolve(value) : undefined
  }
  return { env, flag: flagOf(env), default: fallback, meaning, allowed: 'an absolute path', parse }
}

function choice<const T extends string>(env: string, fallback: T, choices: readonly T[], meaning: string): Setting<T> {
  const parse = (value: string): T | undefined => choices.find((one) => one === value)
  return { env, flag: flagOf(env), default: fallback, meaning, allowed: `one of ${choices.join(', ')}`, parse }
}

function number(
  env: string,
  fallback: string,
  [least, most]: readonly [number, number],
  meaning: string,
  isFraction = false,
): Setting<number> {
  const form = isFraction ? /^\d+(\.\d+)?$/ : /^\d+$/
  const parse = (value: string): number | undefined => {
    const result = Number(value)
    return form.test(value) && result >= least && result <= most ? result : undefined
  }
  const allowed = `${isFraction ? 'a number' : 'a whole number'} from ${String(least)} to ${String(most)}`
  return { env, flag: flagOf(env), default: fallback, meaning, allowed, parse }
}

function toggle(env: string, meaning: string): Setting<boolean> {
  const words = new Map([['1', true], ['true', true], ['0', false], ['false', false]]) // prettier-ignore
  return { env, flag: flagOf(env), default: '0', meaning, allowed: '0 or 1', isSwitch: true, parse: (value) => words.get(value) }
}
