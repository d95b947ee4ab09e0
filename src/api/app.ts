/**
 * The HTTP server, built but not listening: plugins, error handling, the OpenAPI document.
 * Keeps: one handler for every error; bodies are checked as they came, nothing is stripped or converted.
 * Leaves: listening to main.ts.
 */
import { readFileSync } from 'node:fs'
import swagger from '@fastify/swagger'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import type { Check, VolumeManager } from '../manager/index.ts'
import { guard, makeAuthorizer } from './auth.ts'
import { readBodies } from './bodies.ts'
import { exports } from './export.ts'
import { health } from './health.ts'
import { imports } from './import.ts'
import { mounts } from './mounts.ts'
import { handleError } from './problems.ts'
import { refuseOthers } from './routes.ts'
import { stat } from './stat.ts'
import { volumes } from './volumes.ts'

export interface AppOptions {
  readonly manager: VolumeManager
  /** What preflight found. */
  readonly checks: readonly Check[]
  /** The bearer token; undefined: none is needed. */
  readonly token: string | undefined
  readonly log: FastifyBaseLogger
}

/** Builds the app. The caller makes it listen, and closes it. */
export async function buildApp({ manager, checks, token, log }: AppOptions): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: log,
    requestTimeout: 0, // bodies.ts limits it by route; Node's own limit for headers stays
    forceCloseConnections: true, // a stop does not wait for clients
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false } },
    routerOptions: { ignoreTrailingSlash: true },
  }).withTypeProvider<TypeBoxTypeProvider>()
  const authorizer = makeAuthorizer(token)
  app.setErrorHandler(handleError)
  readBodies(app)
  guard(app, authorizer)
  refuseOthers(app)
  await app.register(swagger, { openapi: describeApi() })
  await app.register(volumes, { manager })
  await app.register(mounts, { manager })
  await app.register(stat, { manager })
  await app.register(exports, { manager })
  await app.register(imports, { manager })
  await app.register(health, { checks, authorizer, version: packageVersion })
  app.get('/openapi.yaml', { schema: { hide: true } }, (_request, reply) =>
    reply.type('application/yaml').send(app.swagger({ yaml: true })),
  )
  await app.ready()
  return app
}

/** The version in package.json, which lies two folders up from source and from compiled code. */
export const packageVersion = readVersion()

function readVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : 'unknown'
}

function describeApi() {
  return {
    openapi: '3.1.0',
    info: {
      title: 'litevol',
      version: packageVersion,
      description: 'A volume manager for containers: every volume is a complete filesystem in one SQLite file. Errors: docs/api/errors.md.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: 'http://127.0.0.1:8080' }],
    components: {
      securitySchemes: { token: { type: 'http' as const, scheme: 'bearer', description: 'Needed when LITEVOL_TOKEN_FILE is set' } },
    },
    security: [{}, { token: [] }],
  }
}
