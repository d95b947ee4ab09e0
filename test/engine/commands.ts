/**
 * Random commands over a volume, for model.test.ts: each is plain data that names inodes by their place among those that exist, so
 * that a shorter sequence is still a sequence and fast-check can shrink it.
 * Keeps: a command makes the same call of the volume and of the model.
 * Leaves: comparing the two to the test.
 */
import fc from 'fast-check'
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, isDirectory, isRegular, type Ino } from '../../src/base/index.ts'
import { blockSize, maximumFileSize } from '../../src/engine/index.ts'
import { seededBytes } from '../support.ts'
import { accessList, aclTags, defaultList, encodeAcl } from './model-acls.ts'
import type { Model, Subject } from './model.ts'

/** One call, made of the volume and of the model alike; what it returns is compared. */
export type Call = (subject: Subject) => unknown

/** A command that is a call of both. */
export interface CallCommand {
  readonly kind: 'call'
  readonly prepare: (model: Model) => Call
  /** It is one transaction. */
  readonly isAtomic: boolean
}

/** A command: a call, or something done to the volume file between two calls. */
export type Command = CallCommand | { readonly kind: 'reopen' } | { readonly kind: 'crash' }

/** An inode of those that exist, by its place; `stale` is a number that none has. */
type Place = { readonly of: 'any' | 'directory' | 'file'; readonly nth: number } | { readonly of: 'stale' }

function resolve(model: Model, place: Place): Ino {
  if (place.of === 'stale') return 1_000_000 as Ino
  const isWanted = { any: () => true, directory: isDirectory, file: isRegular }[place.of]
  const found = [...model.nodes.values()].filter(({ mode }) => isWanted(mode))
  return found[place.nth % found.length]?.ino ?? model.root
}

/** Records of which each field has a value, printed without noise. */
const record = <T>(fields: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> => fc.record<T>(fields, { noNullPrototype: true })

const nth = fc.nat({ max: 30 })
const anyInode: fc.Arbitrary<Place> = fc.oneof(
  { weight: 30, arbitrary: record({ of: fc.constant('any' as const), nth }) },
  { weight: 1, arbitrary: fc.constant({ of: 'stale' as const }) },
)
const inode = (of: 'directory' | 'file'): fc.Arbitrary<Place> =>
  fc.oneof({ weight: 12, arbitrary: record({ of: fc.constant(of), nth }) }, { weight: 1, arbitrary: anyInode })
const directory = inode('directory')
const file = inode('file')

const oddNames = ['', '.', '..', 'a/b', 'nul\0', 'new\nline', '\xff\xfe', 'n'.repeat(255), 'n'.repeat(256), 'n'.repeat(5000)]
const oneOf = <T>(...values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values)
const name = fc.oneof({ weight: 20, arbitrary: oneOf('a', 'b', 'c', 'd', 'e', 'f') }, { weight: 1, arbitrary: oneOf(...oddNames) })

const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1')

/** A name that is there, by its place in the directory, or any. */
const knownName = fc.oneof({ weight: 6, arbitrary: nth }, { weight: 1, arbitrary: name })

function resolveName(model: Model, directory: Ino, known: number | string): Buffer {
  const there = [...(model.nodes.get(directory)?.entries.keys() ?? [])]
  return bytesOf(typeof known === 'string' ? known : (there[known % there.length] ?? 'a'))
}

const offset = fc.oneof(
  { weight: 4, arbitrary: fc.nat({ max: 4 * blockSize }) },
  { weight: 4, arbitrary: fc.tuple(fc.nat({ max: 4 }), fc.integer({ min: -3, max: 3 })).map(([i, d]) => Math.max(0, i * blockSize + d)) },
  { weight: 2, arbitrary: fc.nat({ max: 32 }).map((page) => page * 4096) },
  { weight: 1, arbitrary: fc.nat({ max: 5000 }).map((back) => maximumFileSize - back) },
  { weight: 1, arbitrary: oneOf(10 * 2 ** 40, maximumFileSize, maximumFileSize + 1, Number.MAX_SAFE_INTEGER) },
)
const length = fc.oneof(
  { weight: 4, arbitrary: fc.nat({ max: 6000 }) },
  { weight: 2, arbitrary: oneOf(1, 4096, blockSize, blockSize - 1, blockSize + 1, 2 * blockSize) },
  { weight: 1, arbitrary: fc.nat({ max: 3 * blockSize }) },
)
/** Contents that come again, so that chunks are shared: three random ones, one of zeros, each from its start. */
const contents = [Buffer.alloc(3 * blockSize), ...[1, 2, 3].map((seed) => seededBytes(seed, 3 * blockSize))]
const data = record({ content: fc.nat({ max: contents.length - 1 }), length })
const dataOf = (value: { content: number; length: number }): Buffer => contents[value.content]?.subarray(0, value.length) ?? Buffer.alloc(0)

const permissions = fc.oneof(oneOf(0, 0o644, 0o755, 0o2755, 0o6755, 0o4711, 0o2644), fc.nat({ max: 0o7777 }))
const owner = { uid: oneOf(0, 1000, 2 ** 32 - 2), gid: oneOf(0, 50, 2 ** 32 - 2) }
const moment = fc.record(
  { sec: fc.integer({ min: -(2 ** 33), max: 2 ** 34 }), nsec: fc.nat({ max: 999_999_999 }) },
  { noNullPrototype: true },
)
const type = oneOf(S_IFREG, S_IFREG, S_IFREG, S_IFDIR, S_IFDIR, S_IFDIR, S_IFLNK, 0o010000, 0o020000, 0o060000, 0o140000, 0, S_IFMT)
const target = fc.oneof({ weight: 15, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: oneOf(0, 1, 10, 4095, 4096) })

/** What is several transactions. */
const compound = ['writes', 'collect']

/** A command as fast-check makes, shrinks and prints it. */
function call<T extends object>(
  weight: number,
  what: string,
  values: { [K in keyof T]: fc.Arbitrary<T[K]> },
  prepare: (values: T, at: (place: Place) => Ino, named: (directory: Ino, known: number | string) => Buffer) => Call,
): { what: string; weight: number; arbitrary: fc.Arbitrary<CallCommand> } {
  const arbitrary = record(values).map((chosen) => ({
    kind: 'call' as const,
    isAtomic: !compound.includes(what),
    prepare: (model: Model) =>
      prepare(
        chosen,
        (place) => resolve(model, place),
        (directory, known) => resolveName(model, directory, known),
      ),
    [fc.toStringMethod]: () => `${what} ${fc.stringify(chosen)}`,
  }))
  return { what, weight, arbitrary }
}

const between = (weight: number, kind: 'reopen' | 'crash') => ({
  weight,
  arbitrary: fc.constant({ kind, [fc.toStringMethod]: () => kind }),
})

const treeCommands = [
  call(
    14,
    'create',
    { parent: directory, name, type, permissions, ...owner, rdev: oneOf(0, 0x0103), target, umask: oneOf(0, 0o022, 0o077) },
    (v, at) => {
      const isSymlink = v.type === S_IFLNK
      const text = v.target ?? (isSymlink ? 7 : undefined)
      const creation = { uid: v.uid, gid: v.gid, mode: v.type | v.permissions, rdev: v.rdev, umask: v.umask }
      const ino = at(v.parent)
      return (subject) =>
        subject.create(ino, bytesOf(v.name), text === undefined ? creation : { ...creation, target: Buffer.alloc(text, 't') })
    },
  ),
  call(2, 'createUnnamed', { parent: directory, permissions, ...owner }, (v, at) => {
    const ino = at(v.parent)
    return (subject) => subject.createUnnamed(ino, { uid: v.uid, gid: v.gid, mode: S_IFREG | v.permissions })
  }),
  call(5, 'link', { inode: anyInode, parent: directory, name }, (v, at) => {
    const [ino, parent] = [at(v.inode), at(v.parent)]
    return (subject) => subject.link(ino, parent, bytesOf(v.name))
  }),
  call(6, 'unlink', { parent: directory, name: knownName }, (v, at, named) => {
    const parent = at(v.parent)
    const name = named(parent, v.name)
    return (subject) => subject.unlink(parent, name)
  }),
  call(4, 'rmdir', { parent: directory, name: knownName }, (v, at, named) => {
    const parent = at(v.parent)
    const name = named(parent, v.name)
    return (subject) => subject.rmdir(parent, name)
  }),
  call(
    12,
    'rename',
    { parent: directory, name: knownName, to: directory, newName: name, isThere: fc.boolean(), flags: oneOf(0, 0, 0, 1, 2, 2, 3, 4), nth },
    (v, at, named) => {
      const [parent, to] = [at(v.parent), at(v.to)]
      const [name, newName] = [named(parent, v.name), v.isThere ? named(to, v.nth) : bytesOf(v.newName)]
      return (subject) => subject.rename(parent, name, to, newName, v.flags)
    },
  ),
  call(3, 'lookup', { parent: directory, name: knownName }, (v, at, named) => {
    const parent = at(v.parent)
    const name = named(parent, v.name)
    return (subject) => subject.lookup(parent, name)
  }),
  call(1, 'readlink', { inode: anyInode }, (v, at) => {
    const ino = at(v.inode)
    return (subject) => subject.readlink(ino)
  }),
  call(3, 'list', { directory, cookie: fc.nat({ max: 8 }), count: fc.nat({ max: 4 }) }, (v, at) => {
    const ino = at(v.directory)
    return (subject) => {
      const found: unknown[] = []
      subject.list(ino, v.cookie, (dentry) => found.push(dentry) < v.count)
      return found
    }
  }),
  call(3, 'collect', { inode: anyInode, other: anyInode }, (v, at) => {
    const inos = [at(v.inode), at(v.other)]
    return (subject) => {
      subject.collect(inos)
    }
  }),
]

const contentCommands = [
  call(16, 'write', { file, offset, data, keepTimes: fc.boolean(), killPrivileges: fc.boolean() }, (v, at) => {
    const ino = at(v.file)
    const { keepTimes, killPrivileges } = v
    return (subject) => {
      subject.write(ino, v.offset, dataOf(v.data), { keepTimes, killPrivileges })
    }
  }),
  // What folds a block: many small writes side by side.
  call(2, 'writes', { file, offset, data, count: fc.nat({ max: 24 }), step: fc.nat({ max: 5000 }) }, (v, at) => {
    const ino = at(v.file)
    return (subject) => {
      for (let i = 0; i < v.count; i++) {
        subject.write(ino, v.offset + i * v.step, dataOf(v.data).subarray(0, 3000 + i), { keepTimes: false, killPrivileges: false })
      }
    }
  }),
  call(3, 'read', { file, offset, length }, (v, at) => {
    const ino = at(v.file)
    return (subject) => {
      const into = Buffer.alloc(v.length, 0x55)
      return [subject.read(ino, v.offset, into), into.toString('latin1')]
    }
  }),
  call(4, 'allocate', { file, offset, length, keepSize: fc.boolean(), killPrivileges: fc.boolean() }, (v, at) => {
    const ino = at(v.file)
    return (subject) => {
      subject.allocate(ino, v.offset, v.length, { keepSize: v.keepSize, killPrivileges: v.killPrivileges })
    }
  }),
  call(6, 'clear', { file, offset, length: fc.oneof(length, offset), keepSize: fc.boolean(), killPrivileges: fc.boolean() }, (v, at) => {
    const ino = at(v.file)
    return (subject) => {
      subject.clear(ino, v.offset, v.length, { keepSize: v.keepSize, killPrivileges: v.killPrivileges })
    }
  }),
  call(4, 'seek', { file, offset, target: oneOf<'data' | 'hole'>('data', 'hole') }, (v, at) => {
    const ino = at(v.file)
    return (subject) => subject.seek(ino, v.offset, v.target)
  }),
  call(
    8,
    'copyRange',
    { file, offset, to: file, toOffset: offset, length: fc.oneof(length, oneOf(2 ** 30)), killPrivileges: fc.boolean() },
    (v, at) => {
      const [ino, to] = [at(v.file), at(v.to)]
      return (subject) => subject.copyRange(ino, v.offset, to, v.toOffset, v.length, v.killPrivileges)
    },
  ),
  call(6, 'truncate', { file, size: offset }, (v, at) => {
    const ino = at(v.file)
    return (subject) => subject.setAttributes(ino, { size: v.size })
  }),
]

const plainName = oneOf(
  ...[
    'user.a',
    'user.a',
    'user.b',
    'security.capability',
    'trusted.\xff',
    'trusted.',
    'mime',
    '',
    `user.${'x'.repeat(250)}`,
    `user.${'x'.repeat(251)}`,
  ],
)

const xattrName = fc.oneof({ weight: 4, arbitrary: plainName }, { weight: 1, arbitrary: oneOf(accessList, defaultList) })

const rwx = fc.nat({ max: 7 })
const { userObject, user, groupObject, group, mask, other } = aclTags
const named = fc.array(record({ tag: oneOf(user, group), permissions: rwx, id: oneOf(1, 1000) }), { maxLength: 2 })
const object = (tag: number) => rwx.map((permissions) => ({ tag, permissions, id: 2 ** 32 - 1 }))
/** Lists as setfacl(1) makes them, and some that are none: without owner, of another version, with an unknown tag, cut off. */
const acl = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(object(userObject), object(groupObject), object(other)).map((entries) => encodeAcl(entries)) },
  {
    weight: 8,
    arbitrary: fc
      .tuple(object(userObject), named, object(groupObject), object(mask), object(other))
      .map(([first, more, ...rest]) => encodeAcl([first, ...more, ...rest])),
  },
  { weight: 1, arbitrary: fc.tuple(object(groupObject), object(other)).map((entries) => encodeAcl(entries)) },
  { weight: 1, arbitrary: object(128).map((entry) => encodeAcl([entry, { ...entry, tag: userObject }, { ...entry, tag: other }])) },
  { weight: 1, arbitrary: fc.tuple(object(userObject), object(mask), object(other)).map((entries) => encodeAcl(entries, 1)) },
  { weight: 1, arbitrary: oneOf(Buffer.alloc(0), Buffer.from([2, 0, 0]), Buffer.from([2, 0, 0, 0, 1])) },
)

const attributeCommands = [
  call(6, 'set access control list', { inode: anyInode, name: oneOf(accessList, defaultList), acl, clearSetgid: fc.boolean() }, (v, at) => {
    const ino = at(v.inode)
    return (subject) => {
      subject.setXattr(ino, bytesOf(v.name), v.acl, 0, v.clearSetgid)
    }
  }),
  call(
    5,
    'setAttributes',
    {
      inode: anyInode,
      patch: fc.record({ mode: permissions, ...owner, size: offset, atime: moment, mtime: moment, ctime: moment, killPrivileges: fc.boolean() }, { requiredKeys: [], noNullPrototype: true }),
    },
    (v, at) => {
      const ino = at(v.inode)
      return (subject) => subject.setAttributes(ino, v.patch)
    },
  ), // prettier-ignore
  call(
    5,
    'setXattr',
    { inode: anyInode, name: plainName, size: oneOf(0, 1, 10, 5000, 65536, 65537), flags: oneOf(0, 0, 1, 2, 3, 4) },
    (v, at) => {
      const ino = at(v.inode)
      return (subject) => {
        subject.setXattr(ino, bytesOf(v.name), Buffer.alloc(v.size, 'v'), v.flags)
      }
    },
  ),
  call(2, 'getXattr', { inode: anyInode, name: xattrName }, (v, at) => {
    const ino = at(v.inode)
    return (subject) => subject.getXattr(ino, bytesOf(v.name))
  }),
  call(2, 'removeXattr', { inode: anyInode, name: xattrName }, (v, at) => {
    const ino = at(v.inode)
    return (subject) => {
      subject.removeXattr(ino, bytesOf(v.name))
    }
  }),
  call(1, 'xattrNames', { inode: anyInode }, (v, at) => {
    const ino = at(v.inode)
    return (subject) => subject.xattrNames(ino)
  }),
]

/** Any call of a volume. */
const allCalls = [...treeCommands, ...contentCommands, ...attributeCommands]
export const calls: fc.Arbitrary<CallCommand> = fc.oneof(...allCalls)

/** Those that mostly add something to the file. */
const adding = ['create', 'link', 'write', 'writes', 'copyRange', 'setXattr']
export const additions: fc.Arbitrary<CallCommand> = fc.oneof(...allCalls.filter(({ what }) => adding.includes(what)))

/** Sequences of calls, with closing, killing and opening between them. */
export const sequences: fc.Arbitrary<Command[]> = fc.array(
  fc.oneof<fc.WeightedArbitrary<Command>[]>({ weight: 60, arbitrary: calls }, between(1, 'reopen'), between(1, 'crash')),
  { maxLength: 80, size: 'max' },
)
