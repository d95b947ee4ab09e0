/**
 * The unix socket of the volume plugin: whoever connects can do all that root can do with volumes.
 * Keeps: only root may connect, from the first moment on; a socket that nobody serves any more is replaced, a living one, and what is
 *   no socket, never; ours is gone after a stop.
 * Leaves: what is served to app.ts.
 */
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { ErrnoError, systemCode } from '../../base/index.ts'

/** Throws EBUSY when somebody serves the socket, or something else has its name. */
export async function assertSocketFree(socket: string): Promise<void> {
  const found = lstatSync(socket, { throwIfNoEntry: false })
  if (found === undefined) return
  const hint = 'stop it, or name another socket'
  if (!found.isSocket()) throw new ErrnoError('EBUSY', `socket ${socket}: there is something else of that name`, { hint: 'move it away' })
  if (await isServed(socket)) throw new ErrnoError('EBUSY', `socket ${socket}: another service listens on it`, { hint })
}

/** Makes the app listen. It is made in a folder that nobody else may enter, and then named. Returns what takes the name away again. */
export async function listenForRoot(app: FastifyInstance, socket: string): Promise<() => void> {
  await assertSocketFree(socket)
  mkdirSync(dirname(socket), { recursive: true, mode: 0o700 }) // as dockerd makes /run/docker, where it comes first
  const folder = mkdtempSync(join(dirname(socket), '.litevol-')) // mode 0700
  try {
    const made = join(folder, 's')
    await app.listen({ path: made })
    chmodSync(made, 0o600)
    renameSync(made, socket)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  const { ino } = lstatSync(socket)
  return () => {
    if (lstatSync(socket, { throwIfNoEntry: false })?.ino === ino) rmSync(socket, { force: true })
  }
}

/** A socket whose process has died refuses connections. */
function isServed(socket: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const connection = connect(socket)
    connection.once('connect', () => {
      connection.destroy()
      resolve(true)
    })
    connection.once('error', (error) => {
      const code = systemCode(error)
      if (code === 'ECONNREFUSED' || code === 'ENOENT') resolve(false)
      else if (code === 'EAGAIN')
        resolve(true) // its queue is full
      else reject(error)
    })
  })
}
