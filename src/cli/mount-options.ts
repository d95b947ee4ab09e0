/**
 * The words of `-o`, as mount(8) and fstab(5) have them: which go to mount(8), which are litevol's own, which mean nothing here.
 * Keeps: an unknown word is refused by name, unless the caller is sloppy. Of words that exclude each other the last one wins.
 * Leaves: what the words of the virtual filesystem do to mount(8) and the kernel.
 */
import { driverNames, type DriverName, type LowLatencyMode } from '../base/index.ts'
import { ConfigError } from '../config.ts'

/** How to mount. */
export interface MountOptions {
  readonly isReadOnly: boolean
  /** Change the mount that is there; `kernel` and `isReadOnly` are its new words. */
  readonly isRemount: boolean
  /** Make the volume file first. */
  readonly create: boolean
  /** Whether to keep CPUs awake while the mount is busy. */
  readonly lowLatency: LowLatencyMode
  /** Where log lines go; undefined: not said. */
  readonly log: string | undefined
  /** The FUSE driver; undefined: not said. */
  readonly driver: DriverName | undefined
  /** The words for mount(8), in order, without ro and rw. */
  readonly kernel: readonly string[]
}

/** What is litevol's own, or looked at here. */
const ownWords = new Set(['ro', 'rw', 'remount', 'create', 'low_latency', 'nolow_latency'])
const logPattern = /^log=./
const driverOf = (word: string): DriverName | undefined => driverNames.find((name) => word === `driver=${name}`)

/** What mount(8) turns into flags of mount(2), "FILESYSTEM-INDEPENDENT MOUNT OPTIONS". */
const kernelWords = new Set(
  (
    'async sync dirsync atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime lazytime nolazytime ' +
    'dev nodev exec noexec suid nosuid symfollow nosymfollow silent loud'
  ).split(' '),
)

/** What only fstab(5), mount(8) and systemd look at; and what holds for every FUSE mount of litevol anyway. */
const idleWords = new Set(
  (
    'defaults auto noauto user nouser users nousers owner noowner group nogroup nofail _netdev ' + //
    'allow_other default_permissions'
  ).split(' '),
)
const idlePattern = /^([xX]-.*|(user|comment)=.*)$/

/** What the mount table shows of a FUSE mount: mount(8) hands it back with `remount`, and the kernel does not change it. */
const fixedPattern = /^(fd|rootmode|user_id|group_id|max_read|blksize)=/

/** Reads the words; `isSloppy` passes over unknown ones, as `mount -s` wants it. Throws ConfigError. */
export function parseMountOptions(text: string, isSloppy: boolean): MountOptions {
  const words = text.split(',').filter((word) => word !== '')
  const isRemount = words.includes('remount')
  const unknown = words.find((word) => !isKnown(word) && !(isRemount && fixedPattern.test(word)))
  if (unknown !== undefined && !isSloppy) throw new ConfigError(`mount option '${unknown}': is not known, or its value is wrong`)
  return {
    isReadOnly: words.findLast((word) => word === 'ro' || word === 'rw') === 'ro',
    isRemount,
    create: words.includes('create'),
    lowLatency: lowLatencyOf(words.findLast((word) => word.endsWith('low_latency'))),
    log: words.findLast((word) => logPattern.test(word))?.slice('log='.length),
    driver: words.map(driverOf).findLast((name) => name !== undefined),
    kernel: words.filter((word) => kernelWords.has(word)),
  }
}

function lowLatencyOf(word: string | undefined): LowLatencyMode {
  if (word === undefined) return 'auto'
  return word === 'low_latency' ? 'on' : 'off'
}

function isKnown(word: string): boolean {
  const isOurs = ownWords.has(word) || logPattern.test(word) || driverOf(word) !== undefined
  return isOurs || kernelWords.has(word) || idleWords.has(word) || idlePattern.test(word)
}
