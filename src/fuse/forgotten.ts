/**
 * Which inodes the kernel does not know any more: asked for a successor, since a FORGET that its predecessor had read died with it.
 * Keeps: no thread of this process waits in the kernel: the question waits for an inode that is just being dropped, and that may
 *   wait for WRITEs that this process serves.
 * Leaves: removing what is left of them to the filesystem.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { text } from 'node:stream/consumers'
import type { Nodeid } from '../base/index.ts'
import { ROOT_ID } from './constants.ts'
import { inOctal, invalidation } from './notify.ts'

/** Writes each message to the device, and prints the number of each that was refused. */
const script = 'while read -r nodeid message; do printf "$message" >&3 || echo "$nodeid"; done'

/**
 * Returns those of `nodeids` that the kernel holds nothing of: it drops the attributes of an inode (FUSE_NOTIFY_INVAL_INODE), or says
 * ENOENT. None when the mount is gone. `device` is the session's descriptor.
 */
export async function findForgotten(device: number, nodeids: readonly Nodeid[]): Promise<Nodeid[]> {
  // The kernel knows the root as long as there is a mount.
  const questions = [ROOT_ID, ...nodeids, ROOT_ID].map((nodeid) => `${String(nodeid)} ${inOctal(invalidation(nodeid, -1))}\n`)
  const refused = (await answers(device, questions.join(''))).split('\n').filter((line) => line !== '')
  return refused.includes(String(ROOT_ID)) ? [] : refused.map((line) => Number(line) as Nodeid)
}

async function answers(device: number, questions: string): Promise<string> {
  const child: ChildProcess = spawn('sh', ['-c', script], { stdio: ['pipe', 'pipe', 'ignore', device] })
  child.on('error', () => undefined) // it says nothing, then
  child.stdin?.on('error', () => undefined).end(questions)
  return child.stdout === null ? '' : text(child.stdout)
}
