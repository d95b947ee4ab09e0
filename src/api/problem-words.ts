/**
 * The stable words (`code`) of error replies that are more precise than the words of base's errorTable, or that only HTTP knows.
 * Keeps: with errorTable this is the closed list of docs/api/errors.md (held together by a test).
 * Leaves: building the reply to problems.ts.
 */

interface WordRow {
  readonly status: number
  readonly meaning: string
}

export const problemWords = {
  invalid_json: { status: 400, meaning: 'the body is not JSON' },
  unknown_field: { status: 400, meaning: 'the body or query has a field that the call does not know' },
  unauthorized: { status: 401, meaning: 'the bearer token is missing or wrong' },
  not_mounted: { status: 404, meaning: 'the volume is not mounted' },
  no_route: { status: 404, meaning: 'there is no such path' },
  method_not_allowed: { status: 405, meaning: 'the path does not know the method; Allow lists those it knows' },
  name_taken: { status: 409, meaning: 'another volume has the name' },
  mounted: { status: 409, meaning: 'the volume is mounted already' },
  held: { status: 409, meaning: 'another process has the volume file open' },
  body_too_large: { status: 413, meaning: 'the body is larger than 1 MiB' },
  unsupported_media_type: { status: 415, meaning: 'the body is not application/json' },
  range_not_satisfiable: { status: 416, meaning: 'the range begins past the end of the export' },
  invalid_volume_file: { status: 422, meaning: 'the file sent is no volume, or not a sound one; detail and findings say where' },
  newer_volume_file: { status: 422, meaning: 'the volume file sent has a newer format than this litevol knows' },
  internal: { status: 500, meaning: 'a fault of litevol itself; the log has more' },
  store_damaged: { status: 500, meaning: 'the store of volume records is damaged' },
  volume_missing: { status: 500, meaning: 'the volume has a record, but its file is not there' },
  wal_damaged: { status: 500, meaning: 'changes in the WAL of the volume are damaged' },
  not_a_volume: { status: 500, meaning: 'the file of the volume is an SQLite file, but no litevol volume' },
  newer_format: { status: 500, meaning: 'the file of the volume, or the store, has a newer format than this litevol knows' },
  driver_unavailable: { status: 501, meaning: 'the FUSE driver that was asked for cannot be loaded on this machine' },
  not_ready: { status: 503, meaning: 'the mount was not ready in time; everything is undone' },
  unmount_failed: { status: 503, meaning: 'the FUSE process had to be killed; what was not synced may be missing' },
  too_many_exports: { status: 503, meaning: 'too many snapshots of the volume are being read' },
  stopping: { status: 503, meaning: 'the manager is stopping' },
} as const satisfies Record<string, WordRow>

export type ProblemWord = keyof typeof problemWords
