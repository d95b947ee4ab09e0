/**
 * The one error type of litevol, and the closed table that gives each code its errno, HTTP status and meaning.
 * Keeps: every error that reaches a border (FUSE dispatch, API, command line) has a POSIX code known here.
 * Leaves: turning SQLite's codes into ours to engine/connection.ts, the HTTP body to api/problems.ts.
 */

/** One row: the Linux number (asm-generic/errno.h), the HTTP status, the stable API word, the meaning. */
interface ErrorRow {
  readonly errno: number
  readonly status: number
  readonly problem: string
  readonly meaning: string
}

const row = (errno: number, status: number, problem: string, meaning: string): ErrorRow => ({ errno, status, problem, meaning })

/** The closed table of codes; docs/api/errors.md lists the same (held together by a test). */
export const errorTable = {
  EPERM: row(1, 403, 'not_permitted', 'the operation is not permitted'),
  ENOENT: row(2, 404, 'not_found', 'there is no such thing'),
  EIO: row(5, 500, 'io_error', 'the data cannot be read or written, or is damaged'),
  ENXIO: row(6, 404, 'out_of_range', 'there is no data at or after that offset'),
  E2BIG: row(7, 413, 'too_big', 'the value is too big'),
  EBADF: row(9, 400, 'bad_handle', 'the handle is not open'),
  EAGAIN: row(11, 503, 'try_again', 'not possible just now'),
  EACCES: row(13, 403, 'forbidden', 'access is denied'),
  EBUSY: row(16, 409, 'busy', 'it is in use'),
  EEXIST: row(17, 409, 'exists', 'it exists already'),
  EXDEV: row(18, 400, 'cross_volume', 'the two are on different volumes'),
  ENODEV: row(19, 503, 'no_device', 'the device is not there'),
  ENOTDIR: row(20, 400, 'not_a_directory', 'a directory is needed'),
  EISDIR: row(21, 400, 'is_a_directory', 'a directory cannot be used so'),
  EINVAL: row(22, 400, 'invalid', 'an argument is invalid'),
  EFBIG: row(27, 413, 'file_too_big', 'the file would grow past the size limit'),
  ENOSPC: row(28, 507, 'no_space', 'the disk is full'),
  EROFS: row(30, 403, 'read_only', 'it is read-only'),
  EMLINK: row(31, 409, 'too_many_links', 'the inode has too many links'),
  ERANGE: row(34, 400, 'range', 'the result does not fit the buffer'),
  ENAMETOOLONG: row(36, 400, 'name_too_long', 'a name is longer than 255 bytes'),
  ENOSYS: row(38, 501, 'not_supported', 'it is not supported'),
  ENOTEMPTY: row(39, 409, 'not_empty', 'the directory is not empty'),
  ENODATA: row(61, 404, 'no_attribute', 'there is no such extended attribute'),
  EPROTO: row(71, 502, 'protocol', 'the other side broke the protocol'),
  EOVERFLOW: row(75, 500, 'overflow', 'a value does not fit its type'),
  EILSEQ: row(84, 400, 'not_utf8', 'a name is not valid UTF-8'),
  EOPNOTSUPP: row(95, 501, 'not_supported', 'the operation is not supported'),
  ENOTCONN: row(107, 503, 'not_connected', 'nothing serves it'),
  ETIMEDOUT: row(110, 503, 'timeout', 'it did not happen in time'),
  ESTALE: row(116, 409, 'stale', 'the thing is gone'),
  EDQUOT: row(122, 507, 'quota', 'the quota is used up'),
  EKEYREJECTED: row(129, 403, 'key_rejected', 'the key is wrong'),
} as const satisfies Record<string, ErrorRow>

/** A POSIX error name that litevol knows. */
export type ErrnoCode = keyof typeof errorTable

/** What an error may carry besides code and message. */
export interface ErrnoDetails {
  /** Facts known at the fault, for logs: ino, chunk, path, offset. Never file contents, never a PIN. */
  readonly context?: Readonly<Record<string, unknown>>
  /** What the operator can do about it: one sentence. */
  readonly hint?: string
  /** The stable API word where the table's is too general: `not_mounted`, `name_taken`. */
  readonly problem?: string
  readonly cause?: unknown
}

/**
 * The error of every layer: `code` decides errno and HTTP status by `errorTable`.
 * The message names the thing, then the fault, in lower case.
 */
export class ErrnoError extends Error {
  readonly code: ErrnoCode
  readonly context: Readonly<Record<string, unknown>>
  readonly hint: string | undefined
  readonly problem: string

  constructor(code: ErrnoCode, message: string, details: ErrnoDetails = {}) {
    // An errno is an answer, given some thousand times a second (ENODATA, ENOENT); only EIO is a fault whose stack is worth 8 µs.
    const limit = Error.stackTraceLimit
    if (code !== 'EIO') Error.stackTraceLimit = 0
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    Error.stackTraceLimit = limit
    this.name = 'ErrnoError'
    this.code = code
    this.context = details.context ?? {}
    this.hint = details.hint
    this.problem = details.problem ?? errorTable[code].problem
  }

  /** The positive Linux errno. */
  get errno(): number {
    return errorTable[this.code].errno
  }

  /** The HTTP status. */
  get status(): number {
    return errorTable[this.code].status
  }
}

/** The code of a Node system error (`ENOENT`, …), or undefined for anything else. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** An error in the form that crosses a process border. */
export interface PlainError {
  readonly code: ErrnoCode
  readonly message: string
  readonly problem: string
  readonly hint?: string
}

/** Turns anything thrown into the form that crosses a process border; what is not ours becomes EIO. */
export function toPlainError(error: unknown): PlainError {
  if (!(error instanceof ErrnoError)) return { code: 'EIO', message: messageOf(error), problem: errorTable.EIO.problem }
  const { code, message, problem, hint } = error
  return hint === undefined ? { code, message, problem } : { code, message, problem, hint }
}

/** The reverse of `toPlainError`. */
export function fromPlainError(plain: PlainError): ErrnoError {
  const { code, message, problem, hint } = plain
  return new ErrnoError(code, message, hint === undefined ? { problem } : { problem, hint })
}
