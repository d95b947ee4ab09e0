/**
 * Whether the service is well: `GET /health`, open to all; the checks behind the status only for those who may use the API.
 * Leaves: the checks to manager/preflight.ts.
 */
import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { worstVerdict, type Check } from '../manager/index.ts'
import type { Authorizer } from './auth.ts'
import { HealthReply } from './schemas.ts'

export interface HealthOptions {
  readonly checks: readonly Check[]
  readonly version: string
  readonly authorizer: Authorizer
}

export const health: FastifyPluginCallbackTypebox<HealthOptions> = (app, { checks, version, authorizer }, done) => {
  const schema = {
    operationId: 'getHealth',
    summary: 'The status of the service; with the token also the checks of preflight',
    security: [],
    response: { 200: HealthReply },
  }
  app.get('/health', { schema, config: { isOpen: true }, logLevel: 'warn' }, (request) => {
    const status = worstVerdict(checks)
    return authorizer.allows(request.headers.authorization) ? { status, version, checks: [...checks] } : { status }
  })
  done()
}
