/**
 * The resource `mount` of a volume: mount, unmount, status.
 * Leaves: everything but the form of requests and replies to manager.
 */
import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { VolumeManager } from '../manager/index.ts'
import { authorOf } from './author.ts'
import { isForced } from './force.ts'
import { ForceQuery, MountBody, MountReply, MountStatusReply, VolumeParams, problem } from './schemas.ts'

const path = '/volumes/:id/mount'

export const mounts: FastifyPluginCallbackTypebox<{ manager: VolumeManager }> = (app, { manager }, done) => {
  const mount = {
    operationId: 'mountVolume',
    summary: 'Mount a volume; answered once its mountpoint serves',
    params: VolumeParams,
    body: MountBody,
    response: { 200: MountReply, 400: problem('the body is wrong'), 404: problem('not_found'), 409: problem('mounted, held'), 501: problem('driver_unavailable'), 503: problem('not_ready') },
  } // prettier-ignore
  app.post(path, { schema: mount }, async (request) => {
    const { read_only: readOnly = false, persist, driver } = request.body
    const { id, mountpoint, hostPath } = await manager.mount(request.params.id, { readOnly, persist, driver }, authorOf(request))
    return { id, mountpoint: mountpoint ?? '', host_path: hostPath ?? '', read_only: readOnly }
  })

  const unmount = {
    operationId: 'unmountVolume',
    summary: 'Unmount a volume; answered once everything is written and one whole file is left',
    params: VolumeParams,
    querystring: ForceQuery,
    response: { 204: Type.Null({ description: 'Unmounted' }), 404: problem('not_found, not_mounted'), 409: problem('busy'), 503: problem('timeout, unmount_failed') },
  } // prettier-ignore
  app.delete(path, { schema: unmount }, async (request, reply) => {
    await manager.unmount(request.params.id, isForced(request.query), authorOf(request))
    return reply.code(204).send(null)
  })

  const restart = {
    operationId: 'restartMount',
    summary: 'Replace the FUSE process of a volume by one with the code as it lies now; its consumers see a pause',
    params: VolumeParams,
    response: { 204: Type.Null({ description: 'The new process serves' }), 404: problem('not_found, not_mounted'), 501: problem('not_supported'), 503: problem('timeout') },
  } // prettier-ignore
  app.post(`${path}/restart`, { schema: restart }, async (request, reply) => {
    await manager.restart(request.params.id)
    return reply.code(204).send(null)
  })

  const status = {
    operationId: 'getMount',
    summary: 'Show how a volume is mounted',
    params: VolumeParams,
    response: { 200: MountStatusReply, 404: problem('not_found') },
  }
  app.get(path, { schema: status }, async (request) => {
    const { id } = request.params
    const { state, mountpoint, hostPath, readOnly, driver, pid, restarts, handles, reason } = await manager.status(id)
    const mounted = state === 'mounted'
    const process_ = { driver, pid, restarts, handles, reason }
    return { id, mounted, state, mountpoint, host_path: hostPath, ready: mounted, read_only: readOnly, ...process_ }
  })
  done()
}
