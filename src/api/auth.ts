/**
 * The bearer token, RFC 6750: who has it may use the API.
 * Keeps: only a hash of the token is kept, and compared in constant time.
 * Leaves: reading the token's file to config.ts.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { HttpProblem } from './problems.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route needs no token. */
    isOpen?: boolean
  }
}

export interface Authorizer {
  /** Whether an Authorization header gives access. */
  allows(header: string | undefined): boolean
}

/** Without a token everybody may. */
export function makeAuthorizer(token: string | undefined): Authorizer {
  if (token === undefined) return { allows: () => true }
  const expected = hash(token)
  return { allows: (header) => timingSafeEqual(hash(/^bearer +(\S+) *$/i.exec(header ?? '')?.[1] ?? ''), expected) }
}

/** Refuses requests without the token, before anything else of them is looked at. */
export function guard(app: FastifyInstance, authorizer: Authorizer): void {
  app.addHook('onRequest', (request, reply, done) => {
    if (request.routeOptions.config.isOpen === true || authorizer.allows(request.headers.authorization)) {
      done()
      return
    }
    void reply.header('www-authenticate', 'Bearer realm="litevol"')
    done(new HttpProblem('unauthorized', 'a bearer token is needed', "send 'Authorization: Bearer TOKEN'"))
  })
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
