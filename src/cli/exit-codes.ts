/** The exit codes of the command litevol, in one list. */
export const exitCodes = {
  ok: 0,
  /** It could not do what it was asked. */
  failed: 1,
  /** A wrong argument or setting. */
  usage: 2,
} as const
