/**
 * A process that serves a faulty disk at a mountpoint, until it is unmounted. Arguments: mountpoint, folder for its files (empty),
 * source (copied at the start), seed. One line on standard output when it serves.
 * Keeps: it never touches its own mount; every write comes at once, since the kernel keeps none back (no WRITEBACK_CACHE).
 * Leaves: starting and ordering to disk.ts.
 */
import { writeSync } from 'node:fs'
import { makeLogger } from '../../src/base/index.ts'
import { FuseSession, mountFuse, openFuseDevice } from '../../src/fuse/index.ts'
import { seededNumbers } from '../support.ts'
import { FaultGate } from './fault-gate.ts'
import { FaultyDisk } from './faulty-disk.ts'

const [mountpoint = '', folder = '', source = '', seed = '1'] = process.argv.slice(2)
const next = seededNumbers(Number(seed))
const gate = new FaultGate(new FaultyDisk(folder, source, () => next() / 2 ** 32))
const device = openFuseDevice()
const session = new FuseSession(device, gate.filesystem, {
  declined: ['WRITEBACK_CACHE'],
  logger: makeLogger('faulty-disk', 'silent'),
  onInit: () => void writeSync(1, 'ready\n'),
})
mountFuse(device, { source: 'faulty-disk', mountpoint, readOnly: false })
await session.serve()
