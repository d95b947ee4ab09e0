/**
 * The program of check-process.ts: checks the one file that it is given, and says how that went.
 * Keeps: it does nothing else, and ends; without its parent too.
 * Leaves: everything about checking to engine.
 */
import { toPlainError } from '../base/index.ts'
import { checkVolume } from '../engine/index.ts'
import type { CheckMessage } from './check-process.ts'

const [, , file = ''] = process.argv
process.title = `litevol: checking ${file}`

const say = (message: CheckMessage): void => {
  process.send?.(message)
}

try {
  const findings = checkVolume(file, { deep: true, onProgress: (progress) => { say({ type: 'progress', progress }) } }) // prettier-ignore
  say({ type: 'findings', findings })
} catch (error) {
  say({ type: 'error', error: toPlainError(error) })
}
process.disconnect()
