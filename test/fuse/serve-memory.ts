/**
 * A child process of the mount tests: mounts a MemoryFilesystem and serves it until it is unmounted, with a reading thread.
 * Arguments: mountpoint, source, and what to do wrong (`none`, `throw-on-mkdir`). One line of JSON on stdout at INIT, one at the end.
 */
import assert from 'node:assert/strict'
import { writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { FuseSession, mountFuse, openFuseDevice } from '../../src/fuse/index.ts'
import { MemoryFilesystem } from './memory-filesystem.ts'

const [mountpoint = '', source = '', fault = 'none'] = process.argv.slice(2)
const say = (line: unknown): void => void writeSync(1, `${JSON.stringify(line)}\n`)

class FaultyFilesystem extends MemoryFilesystem {
  override mkdir(): never {
    throw new TypeError('a fault on purpose')
  }
}

/** Content that was told of ahead, by the memory that it lies in. */
const ahead = new Map<ArrayBufferLike, { readonly offset: number; readonly data: Buffer; readonly copy: Buffer }>()
let expectations = 0
let uses = 0

const fs = fault === 'throw-on-mkdir' ? new FaultyFilesystem() : new MemoryFilesystem()
const counts = new Map<number, number>()
const fd = openFuseDevice()
const write = fs.write.bind(fs)
fs.write = (nodeid, offset, data) => {
  const expected = ahead.get(data.buffer)
  if (expected !== undefined) {
    assert.ok(expected.offset === offset && expected.data.byteOffset === data.byteOffset && expected.data.length === data.length)
    assert.ok(expected.copy.equals(data), 'what was told of ahead has changed')
    uses++
  }
  write(nodeid, offset, data)
}

const session = new FuseSession(fd, fs, {
  requestsPerTurn: 50,
  contentAhead: {
    expect: (offset, data) => {
      expectations++
      ahead.set(data.buffer, { offset, data, copy: Buffer.from(data) })
    },
    forget: (data) => {
      ahead.delete(data.buffer)
    },
  },
  onInit: (negotiated) => say({ negotiated }),
  observer: {
    read(request) {
      const opcode = request.readUInt32LE(4)
      counts.set(opcode, (counts.get(opcode) ?? 0) + 1)
    },
    served: () => undefined,
    answered: () => undefined,
  },
})
mountFuse(fd, { source, mountpoint, readOnly: false })
const memory = session.readAhead()
new Worker(new URL('../../src/fuse/reading-thread.ts', import.meta.url), { workerData: memory }).unref()
while (Atomics.load(new Int32Array(memory.control), 0) === 0) await sleep(5)
let turns = 0
const countTurns = (): void => {
  turns++
  counting = setImmediate(countTurns)
}
let counting = setImmediate(countTurns)
await session.serve()
clearImmediate(counting)
say({ turns, expectations, uses, left: ahead.size, counts: Object.fromEntries(counts), nodes: fs.nodes.size })
