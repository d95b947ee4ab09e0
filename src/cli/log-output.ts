/**
 * Where the log lines of a FUSE process in the background go: a file, or syslog by logger(1), as gocryptfs does it.
 * Keeps: nothing of the caller's terminal or pipes stays open, or whoever waits for their end would wait until the unmount.
 * Leaves: what is worth a line to the FUSE process.
 */
import { spawn } from 'node:child_process'
import { existsSync, openSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Writable } from 'node:stream'
import { ErrnoError, messageOf } from '../base/index.ts'

/** The socket of the syslog daemon, syslog(3). */
const syslogSocket = '/dev/log'

/** Bytes of the longest line that logger(1) passes on whole. */
const lineBytes = 8192

/** What becomes standard output and error of the process. */
export type LogOutput = number | Writable | 'ignore'

/** Opens `file` for appending. Throws EACCES. */
export function openLogFile(file: string): number {
  try {
    return openSync(resolve(file), 'a', 0o640)
  } catch (cause) {
    throw new ErrnoError('EACCES', `log ${file}: cannot be opened: ${messageOf(cause)}`, { cause })
  }
}

/** Starts logger(1), which lives as long as what writes to it; 'ignore' without a syslog daemon. */
export function openSyslog(): Writable | 'ignore' {
  if (!existsSync(syslogSocket)) return 'ignore'
  const logger = spawn('logger', ['--tag', 'litevol', '--priority', 'daemon.notice', '--size', String(lineBytes)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    cwd: '/',
  })
  logger.once('error', () => undefined) // not there: the lines meet a closed pipe, which pino passes over
  logger.unref()
  return logger.stdin
}
