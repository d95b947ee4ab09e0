/** The query `?force=true`. */

/** Whether it asks for force: `true`, `1`, or the bare word. */
export function isForced({ force }: { readonly force?: string }): boolean {
  return force === 'true' || force === '1' || force === ''
}
