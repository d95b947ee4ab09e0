/**
 * The service: manager and API put together, started and stopped in order.
 * Keeps: nothing listens before preflight has passed and volumes that persist are mounted; a stop first refuses requests, then ends
 *   all volumes, then gives the store and the mount root back; a start that fails leaves nothing behind.
 * Leaves: the command line and signals to cli/serve.ts.
 */
import { rmSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { assertSocketFree, buildApp, buildPlugin, listenForRoot } from './api/index.ts'
import { ErrnoError, messageOf, type Logger } from './base/index.ts'
import { isLocal, readToken, type Config } from './config.ts'
import { JournalStore, VolumeManager, runPreflight, unshareMountRoot, wantsLowLatency, worstVerdict, type Check, type ManagerOptions, type Preflight } from './manager/index.ts' // prettier-ignore

export {
  Keeper,
  wantsLowLatency,
  formatChecks,
  inspectStore,
  type HistoryEntry,
  type StartWish,
  type StoreInspection,
} from './manager/index.ts'

export interface Server {
  /** Where it listens: `http://127.0.0.1:8080` or `unix:/run/litevol.sock`. */
  readonly address: string
  /** Replaces the FUSE processes of all mounts, one after the other; consumers see a pause. Never rejects. */
  restartMounts(): Promise<void>
  /** Ends everything; a second call waits for the first. */
  close(): Promise<void>
}

/** A start that preflight forbids; the checks say why. */
export class PreflightError extends Error {
  override readonly name = 'PreflightError'
}

/**
 * Starts the service; it listens when this returns. `showChecks` gets what preflight found, passed or not.
 * Throws ConfigError, PreflightError, or what listening throws.
 */
export async function startServer(config: Config, log: Logger, showChecks: (checks: readonly Check[]) => void): Promise<Server> {
  const token = config.tokenFile === '' ? undefined : readToken(config.tokenFile)
  if (token?.isExposed === true) log.warn({ file: config.tokenFile }, 'the token file can be read by other users: chmod 600 it')
  if (token === undefined && !isLocal(config))
    log.warn({ host: config.host }, 'listening without a token on an address that others can reach')
  if (config.pluginSocket !== '') await assertSocketFree(config.pluginSocket) // before anything is mounted
  const options = optionsOf(config)
  const stores: JournalStore[] = []
  const openStore = (): number => {
    const store = JournalStore.open(config.dataRoot, log)
    stores.push(store)
    return store.list().length
  }
  const preflight = await runPreflight(options, openStore, log)
  showChecks(preflight.checks)
  const [store] = stores
  if (store === undefined || worstVerdict(preflight.checks) === 'fail') {
    store?.close()
    unshare(config, preflight, log)
    throw new PreflightError(explain(preflight.checks))
  }
  return serve(config, store, preflight, token?.token, log)
}

/** The failed checks in one line. */
function explain(checks: readonly Check[]): string {
  const failed = checks.filter(({ verdict }) => verdict === 'fail')
  return `preflight failed: ${failed.map(({ name, reason, cure }) => `${name}: ${reason} (${cure})`).join('; ')}`
}

async function serve(config: Config, store: JournalStore, preflight: Preflight, token: string | undefined, log: Logger): Promise<Server> {
  const manager = makeManager(config, store, preflight, log)
  let app: FastifyInstance | undefined
  let plugin: Plugin | undefined
  const end = async (): Promise<void> => {
    await Promise.all([plugin?.close(), app?.close(), manager.close()])
    unshare(config, preflight, log)
  }
  try {
    await manager.restore()
    app = await buildApp({ manager, checks: preflight.checks, token, log })
    const address = await listen(app, config)
    plugin = await startPlugin(manager, config, log)
    let closing: Promise<void> | undefined
    return { address, restartMounts: () => manager.restartAll(), close: () => (closing ??= end()) }
  } catch (error) {
    await end()
    throw error
  }
}

function makeManager(config: Config, store: JournalStore, preflight: Preflight, log: Logger): VolumeManager {
  try {
    return new VolumeManager(store, optionsOf(config), log)
  } catch (error) {
    store.close()
    unshare(config, preflight, log)
    throw error
  }
}

interface Plugin {
  close(): Promise<void>
}

/** The volume driver, when it has a socket. */
async function startPlugin(manager: VolumeManager, { pluginSocket }: Config, log: Logger): Promise<Plugin | undefined> {
  if (pluginSocket === '') return undefined
  const app = await buildPlugin(manager, log)
  try {
    const unname = await listenForRoot(app, pluginSocket)
    log.info({ socket: pluginSocket }, 'the volume driver listens')
    return {
      close: () => {
        try {
          unname()
        } catch (error) {
          log.warn({ reason: messageOf(error), socket: pluginSocket }, 'the socket of the volume driver stays')
        }
        return app.close()
      },
    }
  } catch (error) {
    await app.close()
    throw error
  }
}

/** A socket file that nobody listens on any more is replaced: the data root's lock says that no other manager has it. */
async function listen(app: FastifyInstance, { host, port, socket }: Config): Promise<string> {
  if (socket !== '') {
    rmSync(socket, { force: true })
    await app.listen({ path: socket })
    return `unix:${socket}`
  }
  await app.listen({ host, port })
  const { address, port: bound, family } = app.server.address() as AddressInfo // it listens on TCP
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${String(bound)}`
}

function unshare(config: Config, { sharing }: Preflight, log: Logger): void {
  try {
    unshareMountRoot(config.mountRoot, sharing)
  } catch (error) {
    log.warn({ reason: messageOf(error), hint: error instanceof ErrnoError ? error.hint : undefined }, 'the mount root stays shared')
  }
}

function optionsOf(config: Config): ManagerOptions {
  const { dataRoot, runRoot, mountRoot, hostMountRoot, isHostElsewhere, driver, logLevel, exportWalLimit } = config
  return {
    dataRoot,
    runRoot,
    mountRoot,
    hostMountRoot,
    isHostElsewhere,
    driver,
    hasStandby: config.standby === 'on',
    isLowLatency: wantsLowLatency(config.lowLatency),
    logLevel,
    exportWalLimit,
    exportLeaseMs: config.exportLeaseSeconds * 1000,
    exportStallMs: config.exportStallSeconds * 1000,
    mountTimeoutMs: config.mountTimeoutSeconds * 1000,
    unmountTimeoutMs: config.unmountTimeoutSeconds * 1000,
    stopTimeoutMs: config.stopTimeoutSeconds * 1000,
  }
}
