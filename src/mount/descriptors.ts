/**
 * The descriptors that a FUSE process has from its keeper (keeper.sh), by number.
 * Keeps: they outlive the process: another one has them as well. Leaves: opening them to the keeper.
 */
import { closeSync, fstatSync } from 'node:fs'
import { openFuseDevice } from '../fuse/index.ts'

/** The volume file, which is locked (engine/owner.ts). */
export const lockFd = 4

/** A pipe that ends when the starter does, if the start options say so. */
export const leashFd = 5

const inheritedDevice = 3

/** Device number of /dev/fuse: major 10 (misc), minor 229 (FUSE_MINOR of linux/miscdevice.h). */
const fuseDevice = (10 << 8) | 229

/** `/dev/fuse` as the keeper has opened it. Throws what keeps it from being opened: ENOENT, EACCES, EPERM. */
export function deviceFd(): number {
  const stats = fstatSync(inheritedDevice)
  return stats.isCharacterDevice() && stats.rdev === fuseDevice ? inheritedDevice : openFuseDevice()
}

/**
 * Closes the device for a driver that opens it by itself. It then gets the lowest free number, which is this one: libfuse 2
 * leaves its descriptor open in children, and those that wait on the mount have another file in its place (flush.ts, unmountFuse).
 */
export function closeDevice(): void {
  closeSync(inheritedDevice)
}
