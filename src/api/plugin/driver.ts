/**
 * The calls of the volume plugin protocol, https://docs.docker.com/engine/extend/plugins_volume/: the names of an engine are our names.
 * Keeps: what an engine repeats after a lost reply does no harm; the paths in replies are those of the host; a call whose caller has
 *   given up (after 120 s for Create and Mount, 60 s for the others) attaches and deletes nothing any more.
 * Leaves: the set of attachments to manager/attachments.ts, what is shown of a volume to describe.ts.
 */
import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import { Type } from 'typebox'
import { ErrnoError } from '../../base/index.ts'
import { attachmentIdPattern, type VolumeManager, type VolumeSummary } from '../../manager/index.ts'
import { createVolume } from '../create-volume.ts'
import { describeBriefly, describeWithFigures } from './describe.ts'
import { readOptions } from './options.ts'

/** Who, in the store's history. */
const who = 'volume plugin'

// Fields that we do not know are passed over: engines of later years may send more.
const Name = Type.String({ minLength: 1 })
const Named = Type.Object({ Name })
const Creation = Type.Object({ Name, Opts: Type.Optional(Type.Union([Type.Null(), Type.Record(Type.String(), Type.String())])) })
const Use = Type.Object({ Name, ID: Type.String({ pattern: `^${attachmentIdPattern}$` }) })
// One that Mount would have refused is not attached either.
const EndOfUse = Type.Object({ Name, ID: Type.String() })

export const volumeDriver: FastifyPluginCallbackTypebox<{ manager: VolumeManager }> = (app, { manager }, done) => {
  app.post('/Plugin.Activate', () => ({ Implements: ['VolumeDriver'] }))

  // The volumes are on this machine: an engine of a swarm does not take them for those of another.
  app.post('/VolumeDriver.Capabilities', () => ({ Capabilities: { Scope: 'local' } }))

  // Without options it is no error for a volume that exists: it may be ours of before a lost reply, or made by the API.
  app.post('/VolumeDriver.Create', { schema: { body: Creation } }, (request) => {
    const { Name: name, Opts: options } = request.body
    const body = readOptions(name, options ?? {})
    if (Object.keys(body).length > 1 || manager.findByName(name) === undefined) createVolume(manager, body, who)
    return { Err: '' }
  })

  app.post('/VolumeDriver.Get', { schema: { body: Named } }, async (request) => ({
    Volume: await describeWithFigures(manager, getByName(manager, request.body.Name)),
    Err: '',
  }))

  app.post('/VolumeDriver.List', () => ({ Volumes: manager.list().map(describeBriefly), Err: '' }))

  app.post('/VolumeDriver.Path', { schema: { body: Named } }, (request) => ({
    Mountpoint: getByName(manager, request.body.Name).hostPath ?? '',
    Err: '',
  }))

  app.post('/VolumeDriver.Remove', { schema: { body: Named } }, async (request, reply) => {
    const volume = manager.findByName(request.body.Name)
    if (volume !== undefined) await manager.delete(volume.id, false, who, untilGone(reply))
    return { Err: '' }
  })

  app.post('/VolumeDriver.Mount', { schema: { body: Use } }, async (request, reply) => {
    const { Name: name, ID: id } = request.body
    const { hostPath } = await manager.attach(getByName(manager, name).id, id, untilGone(reply), who)
    return { Mountpoint: hostPath ?? '', Err: '' }
  })

  app.post('/VolumeDriver.Unmount', { schema: { body: EndOfUse } }, async (request) => {
    const volume = manager.findByName(request.body.Name)
    if (volume !== undefined) await manager.detach(volume.id, request.body.ID, who)
    return { Err: '' }
  })
  done()
}

function getByName(manager: VolumeManager, name: string): VolumeSummary {
  const volume = manager.findByName(name)
  if (volume === undefined) throw new ErrnoError('ENOENT', `volume ${name}: no such volume`)
  return volume
}

/** Aborted when nobody waits for the reply any more. */
function untilGone(reply: FastifyReply): AbortSignal {
  const gone = new AbortController()
  reply.raw.once('close', () => {
    gone.abort(new ErrnoError('ETIMEDOUT', 'whoever asked for it does not wait any more'))
  })
  return gone.signal
}
