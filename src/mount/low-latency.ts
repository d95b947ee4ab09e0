/**
 * CPUs that do not sleep while a mount is busy: of the time that a small request takes, half can be that the
 * CPUs of the one who asks and of the one who answers must wake up, most of all in a virtual machine.
 * How: PM QoS, Documentation/power/pm_qos_interface.rst of the kernel: as long as a process holds /dev/cpu_dma_latency open, no CPU
 *   enters a state that it takes longer to leave than was written there.
 * Keeps: it is held only while requests come, and the kernel ends it with this process; without the device there is one log line.
 * Leaves: whether it is wanted to manager/low-latency.ts.
 */
import { closeSync, openSync, writeSync } from 'node:fs'
import { messageOf, type Logger } from '../base/index.ts'
import { latencyDevice } from './messages.ts'

/** How often it looks, in ms. */
const intervalMs = 100

/** Requests between two looks that make the mount busy: 500 a second. */
const busyRequests = 50

/** Looks without so many after which CPUs may sleep again: one second. */
const patience = 10

/** No latency at all, in µs: CPUs poll. */
const noLatency = Buffer.from(new Int32Array([0]).buffer)

/** Starts it; `countRequests` says how many requests were served so far. Returns how to stop it. */
export function startLowLatency(countRequests: () => number, logger: Logger): () => void {
  let held: number | undefined
  let last = countRequests()
  let quiet = 0
  const release = (): void => {
    if (held !== undefined) closeSync(held)
    held = undefined
  }
  const timer = setInterval(() => {
    const count = countRequests()
    quiet = count - last >= busyRequests ? 0 : quiet + 1
    last = count
    if (quiet === 0) {
      try {
        held ??= hold()
      } catch (error) {
        clearInterval(timer)
        logger.warn({ reason: messageOf(error) }, 'low latency: not to be had here')
      }
    } else if (quiet >= patience) release()
  }, intervalMs)
  return () => {
    clearInterval(timer)
    release()
  }
}

function hold(): number {
  const device = openSync(latencyDevice, 'r+')
  writeSync(device, noLatency)
  return device
}
