/** The face of manager: what api and main.ts may use. */
export { JsonStore } from './json-store.ts'
export { VolumeManager, namePattern, type MountWish, type VolumeStatus, type VolumeSummary } from './volume-manager.ts'
export { formatChecks, runPreflight, worstVerdict, type Check, type Preflight, type Verdict } from './preflight.ts'
export { unshareMountRoot } from './mount-root.ts'
export type { ExportView, ExportWish } from './exports.ts'
export type { ManagerOptions } from './options.ts'
export type { VolumeRecord, VolumeStore } from './store.ts'
export { Keeper, type StartWish } from './keeper.ts'
