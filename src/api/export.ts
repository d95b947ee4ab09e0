/**
 * The export of a volume over HTTP: whole or in part, conditional, resumable (RFC 9110, sections 13 to 15).
 * Keeps: `ETag` names exactly the bytes that are sent; a part is only sent of bytes that the client can mean; a transfer that
 *   cannot go on is cut, never ended short.
 * Leaves: snapshots, and which bytes serve which wish, to manager.
 */
import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { ExportView, ExportWish, VolumeManager } from '../manager/index.ts'
import { matchesTag, parseIfRange, parseRange, sliceOf, strongTag, type ByteRange, type Slice } from './conditions.ts'
import { HttpProblem, handleError } from './problems.ts'
import { VolumeParams, problem } from './schemas.ts'

const mediaType = 'application/vnd.sqlite3'
const path = '/volumes/:id/export'

interface ExportRequest {
  readonly Params: { readonly id: string }
}

export const exports: FastifyPluginCallbackTypebox<{ manager: VolumeManager }> = (app, { manager }, done) => {
  const file = { content: { [mediaType]: { schema: Type.String({ format: 'binary' }) } } }
  const headers = Type.Object({
    range: Type.Optional(
      Type.String({ description: 'One range of bytes; several are answered with the whole', examples: ['bytes=1048576-'] }),
    ),
    'if-range': Type.Optional(Type.String({ description: 'ETag of the bytes that the range continues' })),
    'if-none-match': Type.Optional(Type.String()),
  })
  const response = {
    200: { description: 'The SQLite file', ...file },
    206: { description: 'The part asked for', ...file },
    304: { type: 'null', description: 'The bytes are those that If-None-Match names' },
    404: problem('not_found'),
    409: problem('held; stale: broken off before its first byte'),
    416: problem('range_not_satisfiable'),
    503: problem('too_many_exports, or the FUSE process does not answer'),
  }
  const handler = (request: FastifyRequest<ExportRequest>, reply: FastifyReply) => sendExport(manager, request, reply)
  const get = {
    operationId: 'exportVolume',
    summary: 'The volume as one SQLite file, as it is now',
    params: VolumeParams,
    headers,
    response,
  }
  app.get<ExportRequest>(path, { schema: get, exposeHeadRoute: false }, handler)
  app.head<ExportRequest>(path, { schema: { hide: true, params: VolumeParams } }, handler)
  done()
}

async function sendExport(manager: VolumeManager, request: FastifyRequest<ExportRequest>, reply: FastifyReply): Promise<FastifyReply> {
  const { id } = request.params
  const range = request.method === 'GET' ? parseRange(request.headers.range) : undefined // section 14.2: Range is for GET
  const { name } = manager.get(id)
  const view = await manager.openExport(id, wishOf(request, range))
  try {
    const etag = strongTag(view.tag)
    void reply.header('etag', etag).header('cache-control', 'no-cache')
    if (matchesTag(request.headers['if-none-match'], etag)) return closing(view, reply.code(304))
    void reply.header('accept-ranges', 'bytes').header('content-type', mediaType)
    void reply.header('content-disposition', `attachment; filename="${name}.sqlite"`)
    return answer(request, reply, view, view.mayBePartial ? range : undefined)
  } catch (error) {
    view.close()
    throw error
  }
}

/**
 * If-None-Match asks about the bytes of now, also when a range of earlier ones is wanted. A range from 0 on may be the first of several.
 * Range without If-Range is what `curl -C -` sends: RFC 9110 leaves it to the client not to mix bytes of two versions, which curl does.
 */
function wishOf({ headers }: FastifyRequest, range: ByteRange | undefined): ExportWish {
  if (range === undefined || headers['if-none-match'] !== undefined) return { kind: 'fresh' }
  const tag = parseIfRange(headers['if-range'] as string | undefined)
  if (tag !== undefined) return { kind: 'resume', tag }
  if ('start' in range && range.start === 0) return { kind: 'fresh' }
  return 'start' in range && range.end === undefined ? { kind: 'rest', offset: range.start } : { kind: 'part' }
}

function answer(request: FastifyRequest, reply: FastifyReply, view: ExportView, range: ByteRange | undefined): FastifyReply {
  const { size } = view
  const slice = range === undefined ? { start: 0, end: size } : sliceOf(range, size)
  if (slice === undefined) {
    view.close()
    void reply.header('content-range', `bytes */${String(size)}`).removeHeader('content-disposition')
    return handleError(new HttpProblem('range_not_satisfiable', `the export has ${String(size)} bytes`), request, reply)
  }
  void reply.header('content-length', slice.end - slice.start)
  if (range !== undefined)
    void reply.code(206).header('content-range', `bytes ${String(slice.start)}-${String(slice.end - 1)}/${String(size)}`)
  if (request.method === 'HEAD' || reply.raw.destroyed) return closing(view, reply)
  return sendSlice(reply, view, slice)
}

/** A client that goes away must not leave a stream that nobody reads. */
function sendSlice(reply: FastifyReply, view: ExportView, { start, end }: Slice): FastifyReply {
  const stream = view.stream(start, end)
  reply.raw.once('close', () => {
    stream.destroy()
  })
  return reply.send(stream)
}

function closing(view: ExportView, reply: FastifyReply): FastifyReply {
  view.close()
  return reply.send()
}
