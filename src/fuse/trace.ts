/**
 * The trace: one line a request and one an answer, in a small language, written at log level `trace` only.
 *
 *   rx 7: LOOKUP n1 "a"          request 7: operation, nodeid, names in JSON quotes (bytes as latin1), data length
 *   rx 7*: WRITE n3 4096b        `*`: sent again after the death of our predecessor (bit 63 of unique)
 *   tx 7: OK n3                  answered: nodeid, `negative`, handle (`fh1`), length (`512b`) or attributes (`i3 100644 5b`)
 *   tx 7: ENOENT                 answered with that error
 *   tx 7: none                   not answered: FORGET, BATCH_FORGET, INTERRUPT, NOTIFY_REPLY
 *
 * Keeps: nothing is formatted when the level is off. Leaves: warnings and errors to dispatcher.ts.
 */
import type { Logger } from '../base/index.ts'
import { UNIQUE_RESEND_BIT } from './constants.ts'
import type { Call } from './request.ts'
import { UNIQUE_AT } from './wire.ts'

/** Writes the trace of one session. */
export interface Trace {
  /** A request was read: `unique` as `uniqueOf` gives it. */
  rx(unique: string, operation: string, call: Call): void
  /** It was answered. */
  tx(unique: string, outcome: string): void
}

/** The trace of `logger`, or undefined when its level is above trace: ask once, it is not to cost anything. */
export function traceOf(logger: Logger | undefined): Trace | undefined {
  if (logger?.isLevelEnabled('trace') !== true) return undefined
  return {
    rx: (unique, operation, call) => logger.trace(`rx ${unique}: ${operation} n${call.nodeid}${argumentsOf(call)}`),
    tx: (unique, outcome) => logger.trace(`tx ${unique}: ${outcome}`),
  }
}

/** `unique` of the request in `view`, in decimal without the resend bit; `*` marks that bit. */
export function uniqueOf(view: DataView): string {
  const unique = view.getBigUint64(UNIQUE_AT, true)
  const plain = BigInt.asUintN(UNIQUE_RESEND_BIT, unique)
  return plain === unique ? `${plain}` : `${plain}*`
}

function argumentsOf({ name, secondName, data }: Call): string {
  const quoted = [name, secondName].filter(({ length }) => length > 0).map((bytes) => ` ${JSON.stringify(bytes.toString('latin1'))}`)
  return quoted.join('') + (data.length > 0 ? ` ${data.length}b` : '')
}
