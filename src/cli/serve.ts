/**
 * `litevol serve`: runs the service until SIGTERM or SIGINT; SIGHUP replaces its FUSE processes by the code as it lies now.
 * Keeps: one line on standard output says where it listens, in JSON as the log where it is no terminal; a stop ends with exit 0, a second signal changes nothing.
 * Leaves: the service to main.ts.
 */
import { makeLogger, messageOf, type Logger } from '../base/index.ts'
import { readConfig, type SettingName } from '../config.ts'
import { formatChecks, startServer, type Server } from '../main.ts'
import { exitCodes } from './exit-codes.ts'

/** Starts, listens, and ends the process when a signal comes. `flags` are texts by setting name. Throws ConfigError, PreflightError. */
export async function serveUntilSignal(flags: Readonly<Partial<Record<SettingName, string>>>): Promise<void> {
  const config = readConfig(process.env, flags)
  const log = makeLogger('litevol', config.logLevel)
  const signalled = Promise.withResolvers<NodeJS.Signals>()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, signalled.resolve)
  const server = await startServer(config, log, (checks) => {
    if (process.stderr.isTTY) process.stderr.write(formatChecks(checks))
    else for (const check of checks) log[levels[check.verdict]]({ check }, `preflight: ${check.name}: ${check.reason}`)
  })
  process.on('SIGHUP', () => {
    log.info('replacing the FUSE processes')
    void server.restartMounts()
  })
  announce(server.address)
  await stop(server, await signalled.promise, log)
}

/** Whatever the log's level: scripts wait for it. The fields are those of a log line. */
function announce(address: string): void {
  const msg = `listening on ${address}`
  const line = { level: 30, time: new Date().toISOString(), pid: process.pid, name: 'litevol', address, msg }
  process.stdout.write(process.stdout.isTTY ? `litevol: ${msg}\n` : `${JSON.stringify(line)}\n`)
}

const levels = { ok: 'info', warn: 'warn', fail: 'fatal' } as const

async function stop(server: Server, signal: NodeJS.Signals, log: Logger): Promise<never> {
  log.info({ signal }, 'stopping')
  try {
    await server.close()
  } catch (error) {
    log.fatal({ err: error }, `could not stop in order: ${messageOf(error)}`)
    process.exit(exitCodes.failed)
  }
  process.exit(exitCodes.ok)
}
