/**
 * A service with a volume plugin, and an engine that calls it as dockerd does: over the socket, without a media type.
 * Leaves: real engines to test/containers.
 */
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { join } from 'node:path'
import { Service, withRoots, type Roots } from '../system/support.ts'

export interface PluginReply {
  readonly status: number
  readonly type: string | undefined
  readonly body: Readonly<Record<string, unknown>>
}

/** The volume in a reply of Get. */
export interface PluginVolume {
  readonly Name: string
  readonly Mountpoint: string
  readonly CreatedAt: string
  readonly Status: Readonly<Record<string, unknown>>
}

export class Engine {
  readonly socket: string

  constructor(socket: string) {
    this.socket = socket
  }

  /** Calls without looking at the outcome; `body` undefined is an empty one. */
  call(name: string, body?: unknown, headers: Readonly<Record<string, string>> = {}): Promise<PluginReply> {
    return this.send(name, body === undefined ? undefined : JSON.stringify(body), headers)
  }

  /** The same with the text of a body. */
  send(name: string, text: string | undefined, headers: Readonly<Record<string, string>> = {}): Promise<PluginReply> {
    return new Promise((resolve, reject) => {
      const outgoing = request({ socketPath: this.socket, path: `/${name}`, method: 'POST', headers, agent: false }, (incoming) => {
        const pieces: Buffer[] = []
        incoming.on('data', (piece: Buffer) => pieces.push(piece))
        incoming.on('error', reject)
        incoming.on('end', () => {
          const received = Buffer.concat(pieces).toString()
          const { statusCode = 0, headers: fields } = incoming
          resolve({ status: statusCode, type: fields['content-type'], body: JSON.parse(received) as PluginReply['body'] })
        })
      })
      outgoing.on('error', reject)
      outgoing.end(text)
    })
  }

  /** Calls a method of the driver that must succeed. */
  async do(method: string, body?: unknown): Promise<PluginReply['body']> {
    const reply = await this.call(`VolumeDriver.${method}`, body)
    assert.equal(reply.status, 200, `${method} ${JSON.stringify(body)}: ${JSON.stringify(reply.body)}`)
    assert.equal(reply.body['Err'] ?? '', '')
    return reply.body
  }

  /** Calls a method of the driver that must be refused; returns what it says. */
  async refuse(method: string, body?: unknown): Promise<string> {
    const reply = await this.call(`VolumeDriver.${method}`, body)
    assert.equal(reply.status, 500, `${method} ${JSON.stringify(body)}: ${JSON.stringify(reply.body)}`)
    assert.deepEqual(Object.keys(reply.body), ['Err'])
    return String(reply.body['Err'])
  }

  async get(name: string): Promise<PluginVolume> {
    return (await this.do('Get', { Name: name }))['Volume'] as PluginVolume
  }

  /** Returns the mountpoint. */
  async mount(name: string, id: string): Promise<string> {
    return String((await this.do('Mount', { Name: name, ID: id }))['Mountpoint'])
  }

  async unmount(name: string, id: string): Promise<void> {
    await this.do('Unmount', { Name: name, ID: id })
  }
}

/** The environment of a service with a plugin in `folder`. */
export function pluginIn(folder: string): { readonly LITEVOL_PLUGIN_SOCKET: string } {
  return { LITEVOL_PLUGIN_SOCKET: join(folder, 'plugins', 'litevol.sock') }
}

export interface PluginFixture {
  readonly engine: Engine
  readonly roots: Roots
  readonly folder: string
  /** Starts the service anew once the one before is over. */
  readonly start: (environment?: Readonly<Record<string, string>>) => Promise<Service>
}

/** Runs `work` with an engine and services, which it starts itself. Those it leaves are stopped. */
export async function withEngine(work: (fixture: PluginFixture) => Promise<void>): Promise<void> {
  await withRoots(async (roots, folder) => {
    const environment = pluginIn(folder)
    const services: Service[] = []
    const start = async (more: Readonly<Record<string, string>> = {}): Promise<Service> => {
      const service = await Service.start(roots, { ...environment, ...more })
      services.push(service)
      return service
    }
    try {
      await work({ engine: new Engine(environment.LITEVOL_PLUGIN_SOCKET), roots, folder, start })
      await services.at(-1)?.stop()
    } finally {
      for (const { child } of services) if (child.exitCode === null) child.kill('SIGKILL')
    }
  })
}

/** Runs `work` with an engine and a running service. */
export async function withPlugin(work: (engine: Engine, service: Service, folder: string) => Promise<void>): Promise<void> {
  await withEngine(async ({ engine, folder, start }) => {
    await work(engine, await start(), folder)
  })
}

/** An id as Docker makes them. */
export function useId(n: number): string {
  return n.toString(16).padStart(64, '0')
}
