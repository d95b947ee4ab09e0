/**
 * How bodies are read: JSON only; an empty body counts as `{}`, with or without a content type, as curl users send it.
 * Keeps: who waits for `100 Continue` (RFC 9110, section 10.1.1) gets it once the request has passed what can be said without its
 *   body; a body that does not come is not waited for without end; who sends one that is refused gets to read why.
 * Leaves: checking bodies to the schemas, a streamed one to its route.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route reads its body itself: it asks for it, and limits the time. */
    isStreamed?: boolean
  }
}

/** How long a body may take, in ms. Node's own limit would end a long import too. */
const bodyTimeoutMs = 60_000

/** `mediaType` is the one that bodies may have; `*`: any, and none. */
export function readBodies(app: FastifyInstance, mediaType: 'application/json' | '*' = 'application/json'): void {
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(mediaType, { parseAs: 'string' }, (request, body, done) => {
    const text = body.toString()
    if (text.trim() === '') done(null, {})
    else void parseJson(request, text, done)
  })
  app.addHook('preParsing', (request, reply, payload, done) => {
    if (request.routeOptions.config.isStreamed !== true) {
      askForBody(request, reply)
      limitTime(request)
    }
    done(null, payload)
  })
  app.addHook('preValidation', (request, _reply, done) => {
    if (request.body === undefined && request.method === 'POST') request.body = request.routeOptions.config.isStreamed === true ? '' : {}
    done()
  })
  // Fastify closes the connection where it refuses a body. With bytes that were not read that is a reset, which overtakes the reply:
  // left open, Node reads what still comes.
  app.addHook('onSend', (request, reply, payload, done) => {
    if (!request.raw.complete && request.routeOptions.config.isStreamed !== true) {
      void reply.removeHeader('connection')
      reply.raw.shouldKeepAlive = true // a client that wants the connection closed closes it itself
    }
    done(null, payload)
  })
  // Without a listener Node itself answers 100 at once, and curl sends what nobody will read.
  app.server.on('checkContinue', (request, response) => {
    app.routing(request, response)
  })
}

/** Has a client that waits for it send its body. */
export function askForBody(request: FastifyRequest, reply: FastifyReply): void {
  if (request.headers.expect?.toLowerCase() === '100-continue') reply.raw.writeContinue()
}

function limitTime({ raw }: FastifyRequest): void {
  const timer = setTimeout(() => {
    if (!raw.complete) raw.destroy()
  }, bodyTimeoutMs)
  timer.unref()
  raw.once('close', () => {
    clearTimeout(timer)
  })
}
