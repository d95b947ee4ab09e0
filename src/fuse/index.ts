/**
 * The face of fuse: what src/mount uses to serve a volume through the kernel.
 * Keeps: protocol details stay inside. Leaves: mounts as the manager sees them to mount.ts, which it imports by itself.
 */
export type {
  AttributeChanges,
  Attributes,
  DirectoryEntry,
  Entry,
  Filesystem,
  Maker,
  StatFs,
  WriteOrigin,
  XattrOptions,
} from './filesystem.ts'
export { FALLOC, ROOT_ID, opcodes } from './constants.ts'
export { findForgotten } from './forgotten.ts'
export { answerLateSeek } from './late-seek.ts'
export type { LateSeek } from './late-seek.ts'
export { refuseRequests, requestStep } from './lost-requests.ts'
export { hasMount, requestResend } from './notify.ts'
export { FuseSession } from './session.ts'
export type { ContentAhead, RequestObserver, SessionOptions } from './dispatcher.ts'
export { hasReader, type RequestsAheadMemory } from './requests-ahead.ts'
export type { Negotiated } from './negotiate.ts'
export { availableMemory } from './memory-limit.ts'
export { mayPlanChange, planDirtyLimit, setDirtyLimit } from './dirty-limit.ts'
export type { DirtyLimitOptions, DirtyPlan } from './dirty-limit.ts'
export { abortConnection, deviceNumber, escapeMountinfo, findMount, listMounts, mountFuse, openFuseDevice, unmountFuse } from './mount.ts'
export type { MountInfo, MountOptions, UnmountOptions } from './mount.ts'
export { NATIVE_MAX_WRITE, NativeMount } from './native/native-mount.ts'
export type { NativeMountOptions } from './native/native-mount.ts'
