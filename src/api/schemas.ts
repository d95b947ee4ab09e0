/**
 * The schemas of all bodies, queries and replies: the single source of checking, types and openapi.yaml.
 * Keeps: requests refuse fields they do not know; names on the wire are in snake_case.
 * Leaves: what the values mean to manager, error replies to problems.ts.
 */
import { Type, type Static } from 'typebox'
import { driverNames } from '../base/index.ts'
import { namePattern } from '../manager/index.ts'

const states = ['unmounted', 'mounting', 'mounted', 'unmounting', 'failed', 'deleted'] as const

const Identity = Type.String({ description: 'Id of the volume, a UUIDv7', examples: ['019430e2-6a40-7c3e-b1f1-0d6f0c9a7b21'] })
const State = Type.String({ enum: states, description: 'What the supervisor is doing with the volume' })
const Mountpoint = Type.Union([Type.String(), Type.Null()], { description: 'Where it is mounted, as the manager sees it; null: not', examples: ['/mnt/litevol/019430e2-6a40-7c3e-b1f1-0d6f0c9a7b21'] }) // prettier-ignore
const HostPath = Type.Union([Type.String(), Type.Null()], {
  description: 'The mountpoint as the host sees it: what another container binds',
})
const strict = { additionalProperties: false } as const
const owner = { minimum: 0, maximum: 4_294_967_294 } as const

export const VolumeParams = Type.Object({ id: Identity })

export const ForceQuery = Type.Object(
  { force: Type.Optional(Type.String({ enum: ['true', 'false', '1', '0', ''], description: 'true: even while it is in use' })) },
  strict,
)

export const CreateBody = Type.Object(
  {
    name: Type.String({ pattern: namePattern, description: 'Unique name', examples: ['photos'] }),
    uid: Type.Optional(Type.Integer({ ...owner, description: 'Owner of the root directory; default 0' })),
    gid: Type.Optional(Type.Integer({ ...owner, description: 'Group of the root directory; default 0' })),
    mode: Type.Optional(
      Type.Union([Type.String({ pattern: '^[0-7]{3,5}$' }), Type.Integer({ minimum: 0, maximum: 0o7777 })], {
        description: 'Permission bits of the root directory: octal digits as a string ("0755"), or the number itself (493); default "0755"',
        examples: ['0755'],
      }),
    ),
    encrypted: Type.Optional(Type.Boolean({ description: 'true is not supported yet (501)' })),
    pin: Type.Optional(Type.String({ description: 'Not supported yet (501); never logged or stored' })),
  },
  strict,
)

export const ImportQuery = Type.Object(
  { name: Type.String({ pattern: namePattern, description: 'Unique name of the new volume', examples: ['photos'] }) },
  strict,
)

export const MountBody = Type.Object(
  {
    read_only: Type.Optional(Type.Boolean({ description: 'Refuse every change with EROFS until root remounts it rw; default false' })),
    persist: Type.Optional(
      Type.Boolean({ description: 'Mount it again whenever the manager starts, until it is unmounted by a call; default: as before' }),
    ),
    driver: Type.Optional(
      Type.Enum([...driverNames], { description: 'FUSE driver; default: LITEVOL_DRIVER. fuse-native needs its package and libfuse 2' }),
    ),
  },
  strict,
)

export const EmptyBody = Type.Object({}, strict)

const AttachmentReply = Type.Object({
  id: Type.String({ description: 'What the engine calls this use of the volume; Docker has one for each container' }),
  since: Type.String({ description: 'RFC 3339, UTC' }),
})

export const VolumeReply = Type.Object({
  id: Identity,
  name: Type.String({ examples: ['photos'] }),
  created_at: Type.String({ description: 'RFC 3339, UTC', examples: ['2026-01-04T10:11:12.000Z'] }),
  encrypted: Type.Boolean(),
  mounted: Type.Boolean(),
  state: State,
  mountpoint: Mountpoint,
  host_path: HostPath,
  persist: Type.Boolean({ description: 'Mounted again whenever the manager starts' }),
  attachments: Type.Array(AttachmentReply, { description: 'Who has it attached through the volume plugin, oldest first' }),
})

export const VolumeListReply = Type.Array(VolumeReply)

export const MountReply = Type.Object({ id: Identity, mountpoint: Type.String(), host_path: Type.String(), read_only: Type.Boolean() })

export const MountStatusReply = Type.Object({
  id: Identity,
  mounted: Type.Boolean(),
  state: State,
  mountpoint: Mountpoint,
  host_path: HostPath,
  ready: Type.Boolean({ description: 'The mountpoint serves' }),
  read_only: Type.Union([Type.Boolean(), Type.Null()], {
    description: 'Refuses changes, as the mount table has it now; null: not mounted',
  }),
  driver: Type.Union([Type.Enum([...driverNames]), Type.Null()], { description: 'FUSE driver' }),
  pid: Type.Union([Type.Integer(), Type.Null()], { description: 'The FUSE process' }),
  restarts: Type.Union([Type.Integer(), Type.Null()], { description: 'How often the FUSE process was replaced since the mount' }),
  handles: Type.Union([Type.Integer(), Type.Null()], { description: 'Open handles; null when not mounted or not known just now' }),
  reason: Type.Union([Type.String(), Type.Null()], { description: 'Why it failed' }),
})

export const StatReply = Type.Object({
  id: Identity,
  name: Type.String(),
  size_bytes: Type.Integer({ description: 'Bytes of an export made now' }),
  mtime: Type.Number({ description: 'Time of the last change, in seconds since the epoch with a fraction', examples: [1767521472.123456] }),
  change: Type.Integer({ description: 'Count of changes: advances with every committed change and with nothing else' }),
  mounted: Type.Boolean(),
  state: State,
})

export const CheckpointReply = Type.Object({ id: Identity, wal_frames_checkpointed: Type.Integer(), wal_frames_remaining: Type.Integer() })

export const HealthReply = Type.Object({
  status: Type.String({ enum: ['ok', 'warn', 'fail'] }),
  version: Type.Optional(Type.String()),
  checks: Type.Optional(
    Type.Array(
      Type.Object({
        name: Type.String(),
        verdict: Type.String({ enum: ['ok', 'warn', 'fail'] }),
        reason: Type.String(),
        cure: Type.String({ description: 'What to do about it; empty when ok' }),
      }),
    ),
  ),
})

export const ProblemReply = Type.Object(
  {
    type: Type.String({ examples: ['urn:litevol:problem:busy'] }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    code: Type.String({ description: 'Stable word, see docs/api/errors.md', examples: ['busy'] }),
    hint: Type.Optional(Type.String({ description: 'What the operator can do' })),
    handles: Type.Optional(Type.Integer({ description: 'With busy: open handles' })),
    exports: Type.Optional(Type.Integer({ description: 'With busy: running exports' })),
    attachments: Type.Optional(Type.Array(AttachmentReply, { description: 'With busy: who has it attached' })),
  },
  { additionalProperties: true, description: 'RFC 9457 problem details' },
)

/** The reply of a status that is an error. */
export function problem(description: string): {
  readonly description: string
  readonly content: Record<string, { readonly schema: typeof ProblemReply }>
} {
  return { description, content: { 'application/problem+json': { schema: ProblemReply } } }
}

export type VolumeBody = Static<typeof VolumeReply>
