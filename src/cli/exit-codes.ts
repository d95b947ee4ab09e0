/** The exit codes of the command litevol, in one list. */
export const exitCodes = {
  ok: 0,
  /** It could not do what it was asked. */
  failed: 1,
  /** A wrong argument or setting. */
  usage: 2,
  /** `check`: something is wrong with the volume. */
  findings: 1,
  /** `check`: nothing can be said about the volume. */
  unchecked: 2,
} as const
