/**
 * Paths as fuse-native hands them over: UTF-8 strings, absolute from the mountpoint.
 * Keeps: text that was no UTF-8 is refused, never taken for another name. Leaves: where a path leads to path-filesystem.ts.
 */
import { isUtf8 } from 'node:buffer'
import { ErrnoError } from '../../base/index.ts'

/** What the addon puts in the place of bytes that are no UTF-8: two names that differ in them look the same. */
const replacement = '\ufffd'

/** How libfuse 2 names an open file that loses its name (hidden_name in fuse.c): its own number and a counter that only grows. */
const hiddenName = /^\.fuse_hidden[0-9a-f]{16}$/

/** The bytes of a name or a symlink's target. Throws EILSEQ. */
export function bytesOf(text: string): Buffer {
  if (text.includes(replacement)) throw new ErrnoError('EILSEQ', 'name: is not valid UTF-8, which fuse-native cannot pass on')
  return Buffer.from(text)
}

/** A symlink's target as text. Throws EILSEQ. */
export function textOf(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw new ErrnoError('EILSEQ', 'symlink: its target is not valid UTF-8, which fuse-native cannot pass on')
  return bytes.toString()
}

/** The names of a path from the root on; none for the root itself. Throws EILSEQ. */
export function namesOf(path: string): Buffer[] {
  return path.split('/').filter((name) => name !== '').map(bytesOf) // prettier-ignore
}

/** The directory of a path, and its last name. */
export function splitPath(path: string): { readonly folder: string; readonly name: string } {
  const slash = path.lastIndexOf('/')
  return { folder: path.slice(0, slash), name: path.slice(slash + 1) }
}

/** The last name of a path, if it is one that libfuse gives to hide a file. */
export function hiddenNameOf(path: string): string | undefined {
  const { name } = splitPath(path)
  return hiddenName.test(name) ? name : undefined
}
