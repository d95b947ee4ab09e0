/**
 * A child process of the mount tests: mounts a MemoryFilesystem and serves it until it is unmounted.
 * Arguments: mountpoint, source, and what to do wrong (`none`, `throw-on-mkdir`). One line of JSON on stdout at INIT, one at the end.
 */
import { writeSync } from 'node:fs'
import { FuseSession, mountFuse, openFuseDevice } from '../../src/fuse/index.ts'
import { MemoryFilesystem } from './memory-filesystem.ts'

const [mountpoint = '', source = '', fault = 'none'] = process.argv.slice(2)
const say = (line: unknown): void => void writeSync(1, `${JSON.stringify(line)}\n`)

class FaultyFilesystem extends MemoryFilesystem {
  override mkdir(): never {
    throw new TypeError('a fault on purpose')
  }
}

const fs = fault === 'throw-on-mkdir' ? new FaultyFilesystem() : new MemoryFilesystem()
const counts = new Map<number, number>()
const fd = openFuseDevice()
const session = new FuseSession(fd, fs, {
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
session.serve()
say({ counts: Object.fromEntries(counts), nodes: fs.nodes.size })
