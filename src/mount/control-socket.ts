/**
 * The unix socket at which a FUSE process answers its supervisor, now and after either of them was replaced.
 * Keeps: who connects is greeted; each message is one line of JSON; a call is answered where it came from, an event goes to all.
 * Leaves: what calls do to main.ts; who may connect to the permissions of the run folder.
 */
import { closeSync, openSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { socketName, type CallMessage, type EventMessage, type ProcessMessage, type ReplyMessage } from './messages.ts'

export class ControlSocket {
  readonly #server: Server
  readonly #connections = new Set<Socket>()
  /** Calls that are being answered: an unmount ends this process, and is to be answered before. */
  readonly #answers = new Set<Promise<void>>()

  private constructor(server: Server) {
    this.#server = server
  }

  /** Listens in `folder`. `greeting` is sent to each who connects, `answer` is given each call and never throws. */
  static async listen(
    folder: string,
    greeting: EventMessage,
    answer: (call: CallMessage) => Promise<ReplyMessage>,
  ): Promise<ControlSocket> {
    const server = createServer()
    const socket = new ControlSocket(server)
    server.on('connection', (connection) => {
      socket.#serve(connection, greeting, answer)
    })
    // A path of a socket has at most 107 bytes (unix(7)): this one is short wherever the folder lies.
    const directory = openSync(folder, 'r')
    const path = `/proc/self/fd/${String(directory)}/${socketName}`
    rmSync(path, { force: true }) // a predecessor's
    const { promise, resolve, reject } = Promise.withResolvers<undefined>()
    server.once('error', reject)
    server.listen(path, () => {
      resolve(undefined)
    })
    try {
      await promise
    } finally {
      closeSync(directory)
    }
    server.removeListener('error', reject)
    return socket
  }

  /** Whether somebody is connected. */
  get isWatched(): boolean {
    return this.#connections.size > 0
  }

  broadcast(event: EventMessage): void {
    for (const connection of this.#connections) send(connection, event)
  }

  /** Ends all connections, every call answered and what was said delivered as far as they take it. */
  async close(): Promise<void> {
    this.#server.close()
    await Promise.all(this.#answers)
    await Promise.all([...this.#connections].map(end))
  }

  #serve(connection: Socket, greeting: EventMessage, answer: (call: CallMessage) => Promise<ReplyMessage>): void {
    this.#connections.add(connection)
    connection.on('error', () => undefined) // it is told of by close
    connection.once('close', () => this.#connections.delete(connection))
    createInterface({ input: connection }).on('line', (line) => {
      const answered = answer(JSON.parse(line) as CallMessage).then((reply) => {
        send(connection, reply)
        this.#answers.delete(answered)
      })
      this.#answers.add(answered)
    })
    send(connection, greeting)
  }
}

function send(connection: Socket, message: ProcessMessage): void {
  if (connection.writable) connection.write(`${JSON.stringify(message)}\n`)
}

/** How long the other side is given to take what was said, in ms. */
const endTimeoutMs = 1000

function end(connection: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  connection.once('close', () => {
    resolve(undefined)
  })
  connection.setTimeout(endTimeoutMs, () => connection.destroy())
  connection.end()
  connection.resume()
  return promise
}
