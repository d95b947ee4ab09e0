/**
 * The line to the FUSE process of one mount: a unix socket in its run folder, connected anew whenever the process was replaced.
 * Keeps: one connection at a time; it is tried again until `close`.
 * Leaves: what is said to mount-process.ts.
 */
import { closeSync, openSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { socketName, type CallMessage, type ProcessMessage } from '../mount/messages.ts'

/** The pause between two attempts, in ms. */
const retryMs = 10

export class ProcessLink {
  readonly #folder: string
  readonly #onMessage: (message: ProcessMessage) => void
  #socket: Socket | undefined
  #isClosed = false

  /** Begins to connect; `onMessage` gets everything that comes. */
  constructor(folder: string, onMessage: (message: ProcessMessage) => void) {
    this.#folder = folder
    this.#onMessage = onMessage
    void this.#keepConnected()
  }

  /** Sends a message if there is a connection; what a process did not get is sent to the next one by the caller. */
  send(message: CallMessage): void {
    if (this.#socket?.writable === true) this.#socket.write(`${JSON.stringify(message)}\n`)
  }

  close(): void {
    this.#isClosed = true
    this.#socket?.destroy()
  }

  async #keepConnected(): Promise<void> {
    while (!this.#isClosed) {
      await this.#connectOnce()
      await sleep(retryMs)
    }
  }

  /** Connects and resolves when that connection is over. */
  async #connectOnce(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const directory = openDirectory(this.#folder)
    if (directory === undefined) return
    // A path of a socket has at most 107 bytes (unix(7)): this one is short wherever the folder lies.
    const socket = connect(`/proc/self/fd/${String(directory)}/${socketName}`)
    this.#socket = socket
    socket.on('error', () => undefined) // it is told of by close
    socket.once('connect', () => {
      const lines = createInterface({ input: socket })
      lines.on('error', () => undefined) // the socket's, passed on: a process that was killed resets the connection
      lines.on('line', (line) => {
        this.#onMessage(JSON.parse(line) as ProcessMessage)
      })
    })
    socket.once('close', () => {
      resolve(undefined)
    })
    await promise
    closeSync(directory)
    this.#socket = undefined
  }
}

function openDirectory(path: string): number | undefined {
  try {
    return openSync(path, 'r')
  } catch {
    return undefined // the keeper has removed it: it is about to end
  }
}
