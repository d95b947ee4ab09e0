/**
 * What a backup loop asks of a volume: `stat` (promise 5) and `checkpoint`.
 * Leaves: the truth of the numbers to manager.
 */
import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { VolumeManager } from '../manager/index.ts'
import { matchesTag, strongTag } from './conditions.ts'
import { CheckpointReply, EmptyBody, StatReply, VolumeParams, problem } from './schemas.ts'

export const stat: FastifyPluginCallbackTypebox<{ manager: VolumeManager }> = (app, { manager }, done) => {
  const look = {
    operationId: 'statVolume',
    summary: 'Size and time of the last change; ETag is the change token',
    params: VolumeParams,
    headers: Type.Object({ 'if-none-match': Type.Optional(Type.String()) }),
    response: { 200: StatReply, 304: Type.Null({ description: 'Nothing changed since' }), 404: problem('not_found'), 503: problem('the FUSE process does not answer') },
  } // prettier-ignore
  app.get('/volumes/:id/stat', { schema: look }, async (request, reply) => {
    const { id, name, sizeBytes, mtime, change, state } = await manager.stat(request.params.id)
    const etag = strongTag(`${String(change)}-${(BigInt(mtime.sec) * 1_000_000_000n + BigInt(mtime.nsec)).toString(36)}`)
    void reply.header('etag', etag).header('cache-control', 'no-cache')
    if (matchesTag(request.headers['if-none-match'], etag)) return reply.code(304).send(null)
    return reply.send({ id, name, size_bytes: sizeBytes, mtime: secondsOf(mtime), change, mounted: state === 'mounted', state })
  })

  const checkpoint = {
    operationId: 'checkpointVolume',
    summary: 'Copy the WAL into the volume file, as far as running exports allow',
    params: VolumeParams,
    body: EmptyBody,
    response: { 200: CheckpointReply, 404: problem('not_found'), 503: problem('the FUSE process does not answer') },
  }
  app.post('/volumes/:id/checkpoint', { schema: checkpoint }, async (request) => {
    const { id } = request.params
    const { framesCheckpointed, framesRemaining } = await manager.checkpoint(id)
    return { id, wal_frames_checkpointed: framesCheckpointed, wal_frames_remaining: framesRemaining }
  })
  done()
}

/** Decimal digits, not a sum of doubles: 1767521472.123456 comes out as it reads. */
function secondsOf({ sec, nsec }: { readonly sec: number; readonly nsec: number }): number {
  return Number(`${String(sec)}.${String(Math.floor(nsec / 1000)).padStart(6, '0')}`)
}
