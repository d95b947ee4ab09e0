/**
 * Restoring: `POST /volumes/import` takes a volume file as its body, of any media type and length.
 * Keeps: the body is asked for only when nothing stands against the import; it is never held in memory.
 * Leaves: proving the file to manager.
 */
import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { ErrnoError } from '../base/index.ts'
import type { ImportSource, VolumeManager } from '../manager/index.ts'
import { authorOf } from './author.ts'
import { askForBody } from './bodies.ts'
import { describeVolume } from './describe-volume.ts'
import { ImportQuery, VolumeReply, problem } from './schemas.ts'

/** How long a sender may be silent before its import is given up, in ms. */
const silenceMs = 60_000

export const imports: FastifyPluginCallbackTypebox<{ manager: VolumeManager }> = (app, { manager }, done) => {
  app.removeAllContentTypeParsers()
  app.addHook('onRequest', (request, _reply, next) => {
    delete request.raw.headers['content-type'] // whatever it is called; Fastify would refuse what is no media type
    next()
  })
  app.addContentTypeParser('*', (_request, _stream, parsed) => {
    parsed(null, '') // the stream is read by whoever wants it
  })
  const file = { schema: Type.String({ format: 'binary', description: 'A volume file, as an export gives it; any media type' }) }
  const schema = {
    operationId: 'importVolume',
    summary: 'Make a volume of a volume file; answered once every chunk of it is proven',
    querystring: ImportQuery,
    body: { content: { 'application/vnd.sqlite3': file, 'application/octet-stream': file } },
    response: {
      201: VolumeReply,
      400: problem('the name is wrong, or the body broke off'),
      409: problem('name_taken'),
      422: problem('invalid_volume_file with findings, a list of {rule, place}; newer_volume_file'),
      507: problem('no_space'),
    },
  }
  app.post('/volumes/import', { schema, config: { isStreamed: true } }, async (request, reply) => {
    const volume = await manager.import(request.query.name, sourceOf(request, reply), authorOf(request))
    return reply.code(201).header('location', `/volumes/${volume.id}`).send(describeVolume(volume))
  })
  done()
}

function sourceOf(request: FastifyRequest, reply: FastifyReply): ImportSource {
  const gone = new AbortController()
  reply.raw.once('close', () => {
    gone.abort(new ErrnoError('EINVAL', 'import: whoever sent it went away'))
  })
  const length = request.headers['content-length']
  const open = () => {
    const { raw } = request
    raw.setTimeout(silenceMs, () => raw.destroy(new Error(`nothing came for ${String(silenceMs / 1000)} seconds`)))
    raw.once('end', () => raw.setTimeout(0)) // from here on the sender waits for us
    askForBody(request, reply)
    return raw
  }
  return { open, sizeBytes: length === undefined ? undefined : Number(length), signal: gone.signal }
}
