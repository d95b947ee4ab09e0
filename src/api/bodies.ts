/**
 * How bodies are read: JSON only; an empty body counts as `{}`, with or without a content type, as curl users send it.
 * Leaves: checking them to the schemas.
 */
import type { FastifyInstance } from 'fastify'

export function readBodies(app: FastifyInstance): void {
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    const text = body.toString()
    if (text.trim() === '') done(null, {})
    else void parseJson(request, text, done)
  })
  app.addHook('preValidation', (request, _reply, done) => {
    if (request.body === undefined && request.method === 'POST') request.body = {}
    done()
  })
}
