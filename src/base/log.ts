/**
 * The logger every process makes once: pino, JSON lines on standard error, secrets redacted.
 * Keeps: a PIN, token or authorization header never reaches a log line.
 * Leaves: what is worth a line to the borders that catch errors.
 */
import { pino, stdTimeFunctions, type Logger } from 'pino'

export type { Logger }

/** The levels that `LITEVOL_LOG_LEVEL` takes, most talkative first. */
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]

/** Makes the process's logger. `name` says which process; written synchronously so that a crash loses no line. */
export function makeLogger(name: string, level: LogLevel): Logger {
  const redact = ['pin', 'token', 'authorization', '*.pin', '*.token', '*.authorization', 'req.headers.authorization']
  return pino({ name, level, redact, timestamp: stdTimeFunctions.isoTime }, pino.destination({ dest: 2, sync: true }))
}
