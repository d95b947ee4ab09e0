/**
 * The server of Docker's volume plugin protocol, built but not listening.
 * Keeps: requests are taken without a media type and without a body; every error is 500 with `Err`, since podman looks at the status
 *   alone, but for a call that we do not know: 404 tells an engine so.
 * Leaves: the calls to driver.ts, the socket and who may connect to socket.ts.
 */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { LogController, type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import type { VolumeManager } from '../../manager/index.ts'
import { readBodies } from '../bodies.ts'
import { toProblem } from '../problems.ts'
import { refuseOthers } from '../routes.ts'
import { volumeDriver } from './driver.ts'

/** The media type of all replies. */
const mediaType = 'application/vnd.docker.plugins.v1.2+json'

/** Builds the app. The caller makes it listen, and closes it. */
export async function buildPlugin(manager: VolumeManager, log: FastifyBaseLogger): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }), // an engine asks all the time, and what changes anything is in the store's history
    requestTimeout: 0, // bodies.ts limits it
    keepAliveTimeout: 0, // the engine keeps one connection, and would see its end as a failed call
    forceCloseConnections: true, // a stop does not wait for the engine
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false } },
  }).withTypeProvider<TypeBoxTypeProvider>()
  app.setErrorHandler((error, request, reply) => {
    const { code, detail, hint, status } = toProblem(error)
    request.log[code === 'not_found' ? 'debug' : 'warn']({ err: error, code, call: request.url }, 'a call of the volume plugin failed')
    return reply.code(status === 404 && code === 'no_route' ? 404 : 500).send({ Err: hint === undefined ? detail : `${detail} (${hint})` })
  })
  app.addHook('onSend', (_request, reply, payload, done) => {
    void reply.header('content-type', mediaType)
    done(null, payload)
  })
  readBodies(app, '*')
  refuseOthers(app)
  await app.register(volumeDriver, { manager })
  await app.ready()
  return app
}
