/**
 * The resource `volumes`: create, list, look at, delete.
 * Leaves: everything but the form of requests and replies to manager.
 */
import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { VolumeManager } from '../manager/index.ts'
import { authorOf } from './author.ts'
import { createVolume } from './create-volume.ts'
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
    const volume = createVolume(manager, request.body, authorOf(request))
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
