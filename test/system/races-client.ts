/**
 * One client of the race test: does this and that with volumes that other clients change meanwhile.
 * Keeps: every answer is one that the call may give; a download that ends whole has all its bytes; a request that gets no answer
 *   within `answerLimitMs` fails.
 * Leaves: how many clients there are, and what is left when they are done, to races.ts.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, request, type IncomingMessage } from 'node:http'

/** How long a request may take, in ms: an unmount waits for others on the same volume, and each for the disk. */
const answerLimitMs = 120_000

/** The names that clients fight for. */
export const names = ['a', 'b', 'c', 'd', 'e', 'f'] as const

/** How often each action got each answer. */
export type Tally = Map<string, number>

interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  /** Empty when it was not read to its end. */
  readonly body: string
  readonly length: number
  readonly isWhole: boolean
}

/** A call, and the statuses that it may be answered with. */
interface Action {
  readonly name: string
  /** How often it is chosen, relative to the others. */
  readonly weight: number
  readonly answers: readonly number[]
  readonly run: (client: RaceClient, id: string) => Promise<Answer>
}

/** 503 may always be: not ready, not in time, too many exports. 507 is for a full disk, which no test machine has. */
const always = [503]

const actions: readonly Action[] = [
  { name: 'mount', weight: 6, answers: [200, 404, 409], run: (client, id) => client.call('POST', `/volumes/${id}/mount`, client.mountBody()) },
  { name: 'unmount', weight: 3, answers: [204, 404, 409], run: (client, id) => client.call('DELETE', `/volumes/${id}/mount${client.force()}`) },
  { name: 'restart', weight: 2, answers: [204, 404], run: (client, id) => client.call('POST', `/volumes/${id}/mount/restart`) },
  { name: 'status', weight: 2, answers: [200, 404], run: (client, id) => client.call('GET', `/volumes/${id}/mount`) },
  { name: 'stat', weight: 3, answers: [200, 404, 409], run: (client, id) => client.call('GET', `/volumes/${id}/stat`) },
  { name: 'checkpoint', weight: 2, answers: [200, 404, 409], run: (client, id) => client.call('POST', `/volumes/${id}/checkpoint`) },
  { name: 'export', weight: 3, answers: [200, 404, 409], run: (client, id) => client.call('GET', `/volumes/${id}/export`) },
  { name: 'cut export', weight: 1, answers: [200, 404, 409], run: (client, id) => client.call('GET', `/volumes/${id}/export`, undefined, {}, 5000) },
  { name: 'rest', weight: 1, answers: [200, 206, 404, 409, 416], run: (client, id) => client.call('GET', `/volumes/${id}/export`, undefined, { range: `bytes=${String(client.below(100_000))}-` }) },
  { name: 'head', weight: 1, answers: [200, 404, 409], run: (client, id) => client.call('HEAD', `/volumes/${id}/export`) },
  { name: 'delete', weight: 2, answers: [204, 404, 409], run: (client, id) => client.call('DELETE', `/volumes/${id}${client.force()}`) },
] // prettier-ignore

const bag = actions.flatMap((action) => Array.from({ length: action.weight }, () => action))

export class RaceClient {
  readonly #url: string
  readonly #next: () => number
  readonly #tally: Tally
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })

  /** `next` decides what it does; `tally` counts what came of it. */
  constructor(url: string, next: () => number, tally: Tally) {
    this.#url = url
    this.#next = next
    this.#tally = tally
  }

  /** Does one thing after the other until `deadline`, a time of Date.now(). */
  async runUntil(deadline: number): Promise<void> {
    try {
      while (Date.now() < deadline) await this.#step()
    } finally {
      this.close()
    }
  }

  /** Closes its connections. */
  close(): void {
    this.#agent.destroy()
  }

  /** Looks which volumes there are; does something with one of them, or creates one. */
  async #step(): Promise<void> {
    const listed = await this.call('GET', '/volumes')
    this.#count('list', [200], listed)
    const volumes = JSON.parse(listed.body) as readonly { readonly id: string }[]
    const volume = volumes[this.below(names.length)]
    if (volume === undefined) {
      this.#count('create', [201, 409], await this.call('POST', '/volumes', { name: names[this.below(names.length)] }))
      return
    }
    const action = bag[this.below(bag.length)] ?? assert.fail('there are no actions')
    this.#count(action.name, action.answers, await action.run(this, volume.id))
  }

  /** A number from 0 to `limit`, not including it. */
  below(limit: number): number {
    return this.#next() % limit
  }

  force(): string {
    return this.below(2) === 0 ? '?force=true' : ''
  }

  mountBody(): unknown {
    return { read_only: this.below(6) === 0, ...(this.below(3) === 0 ? { persist: true } : {}) }
  }

  /** Asks, and reads the answer, or no more than `cutAfter` bytes of it. */
  async call(
    method: string,
    path: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
    cutAfter = Number.POSITIVE_INFINITY,
  ): Promise<Answer> {
    const json = body === undefined ? {} : { 'content-type': 'application/json' }
    const signal = AbortSignal.timeout(answerLimitMs)
    const sent = request(`${this.#url}${path}`, { method, agent: this.#agent, headers: { ...headers, ...json }, signal })
    sent.end(body === undefined ? '' : JSON.stringify(body))
    const [response] = (await once(sent, 'response')) as [IncomingMessage]
    sent.on('error', () => undefined) // a download that is cut, by the service or by us
    return { status: response.statusCode ?? 0, headers: response.headers, ...(await read(response, cutAfter)) }
  }

  #count(name: string, allowed: readonly number[], { status, headers, body, length, isWhole }: Answer): void {
    assert.ok([...allowed, ...always].includes(status), `${name}: ${String(status)} ${body.slice(0, 1000)}`)
    const promised = headers['content-length']
    if (isWhole && promised !== undefined && name !== 'head') assert.equal(length, Number(promised), `${name}: ended short`)
    const detail = status < 400 || name === 'head' ? '' : ` ${(JSON.parse(body) as { readonly code: string }).code}`
    const key = `${name} ${String(status)}${detail}${isWhole ? '' : ' cut'}`
    this.#tally.set(key, (this.#tally.get(key) ?? 0) + 1)
  }
}

async function read(response: IncomingMessage, cutAfter: number): Promise<Pick<Answer, 'body' | 'length' | 'isWhole'>> {
  const isText = /json/.test(response.headers['content-type'] ?? '')
  const pieces: Buffer[] = []
  let length = 0
  try {
    for await (const piece of response as AsyncIterable<Buffer>) {
      length += piece.length
      if (isText) pieces.push(piece)
      if (length > cutAfter) return { body: '', length, isWhole: false } // leaving the loop destroys the response
    }
  } catch {
    return { body: '', length, isWhole: false } // its volume was unmounted by force, or deleted
  }
  return { body: Buffer.concat(pieces).toString(), length, isWhole: true }
}
