/** What the kernel's page cache holds of a file, for tests of what is brought into it. */
import { execFileSync } from 'node:child_process'
import { closeSync, fsyncSync, openSync } from 'node:fs'

/** Bytes of a file that the page cache holds: fincore(1) of util-linux. */
export const cached = (file: string): number => Number(execFileSync('fincore', ['-bnro', 'RES', file], { encoding: 'utf8' }))

/** Has the page cache let go of a file: POSIX_FADV_DONTNEED, which dd asks for. */
export function drop(file: string): void {
  const descriptor = openSync(file, 'r')
  fsyncSync(descriptor)
  closeSync(descriptor)
  execFileSync('dd', ['if=' + file, 'iflag=nocache', 'count=0', 'status=none'])
}
