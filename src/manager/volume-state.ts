/**
 * The states of a volume, as its supervisor sees it.
 * Keeps: what belongs to a state is part of it, so that nothing of an earlier one can be used. Leaves: the changes to volume.ts.
 */
import type { MountProcess } from './mount-process.ts'

export type VolumeState =
  | { readonly state: 'unmounted' }
  | { readonly state: 'mounting' }
  | Mounted
  | { readonly state: 'unmounting'; readonly process: MountProcess }
  /** Its FUSE process died or could not end in order. The mountpoint is cleared, the file whole as far as it goes; mount works. */
  | { readonly state: 'failed'; readonly reason: string }
  /** The volume is gone; nothing can be done with it. */
  | { readonly state: 'deleted' }

export interface Mounted {
  readonly state: 'mounted'
  readonly process: MountProcess
}
