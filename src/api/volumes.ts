/**
 * The resource `volumes`: create, list, look at, delete.
 * Leaves: everything but the form of requests and replies to manager.
 */
import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { ErrnoError } from '../base/index.ts'
import type { VolumeManager } from '../manager/index.ts'
import { authorOf } from './author.ts'
import { describeVolume } from './describe-volume.ts'
import { isForced } from './force.ts'
import { CreateBody, ForceQuery, VolumeListReply, VolumeParams, VolumeReply, problem } from './schemas.ts'

export const volumes: FastifyPluginCallbackTypebox<{ manager: VolumeManager }> = (app, { manager }, done) => {
  const create = {
    operationId: 'createVolume',
    summary: 'Create a volume',
    body: CreateBody,
    response: {
      201: VolumeReply,
      400: problem('the body is wrong'),
      409: problem('name_taken'),
      501: problem('not_supported'),
      507: problem('no_space'),
    },
  }
  app.post('/volumes', { schema: create }, async (request, reply) => {
    const { name, uid = 0, gid = 0, mode = 0o755, encrypted = false, pin } = request.body
    if (encrypted || pin !== undefined) throw new ErrnoError('ENOSYS', 'encrypted volumes: not supported yet')
    const volume = manager.create(name, { uid, gid, mode: parseMode(mode) }, authorOf(request))
    return reply.code(201).header('location', `/volumes/${volume.id}`).send(describeVolume(volume))
  })

  const list = { operationId: 'listVolumes', summary: 'List all volumes with their mount status', response: { 200: VolumeListReply } }
  app.get('/volumes', { schema: list }, () => manager.list().map(describeVolume))

  const get = {
    operationId: 'getVolume',
    summary: 'Show one volume',
    params: VolumeParams,
    response: { 200: VolumeReply, 404: problem('not_found') },
  }
  app.get('/volumes/:id', { schema: get }, (request) => describeVolume(manager.get(request.params.id)))

  const remove = {
    operationId: 'deleteVolume',
    summary: 'Delete a volume and its file, unmounting it first',
    params: VolumeParams,
    querystring: ForceQuery,
    response: {
      204: Type.Null({ description: 'The file is gone and so is the record' }),
      404: problem('not_found'),
      409: problem('busy, held'),
    },
  }
  app.delete('/volumes/:id', { schema: remove }, async (request, reply) => {
    await manager.delete(request.params.id, isForced(request.query), authorOf(request))
    return reply.code(204).send(null)
  })
  done()
}

/** Octal digits as chmod(1) takes them, or the number itself. */
function parseMode(mode: string | number): number {
  const bits = typeof mode === 'number' ? mode : Number.parseInt(mode, 8)
  if (bits > 0o7777) throw new ErrnoError('EINVAL', 'body mode: must be at most 7777')
  return bits
}
