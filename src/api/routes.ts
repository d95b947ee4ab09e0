/**
 * What is not a route: unknown paths (404), and known paths with another method (405 with Allow).
 * Keeps: the list of paths is that of the registered routes, seen as they are registered.
 */
import type { FastifyInstance } from 'fastify'
import { HttpProblem } from './problems.ts'

interface Path {
  readonly pattern: RegExp
  readonly methods: Set<string>
}

/** Call before the routes are registered. */
export function refuseOthers(app: FastifyInstance): void {
  const paths = new Map<string, Path>()
  app.addHook('onRoute', ({ url, method }) => {
    const path = paths.get(url) ?? { pattern: new RegExp(`^${url.replaceAll(/:[^/]+/g, '[^/]+')}$`), methods: new Set() }
    for (const one of [method].flat()) path.methods.add(one)
    paths.set(url, path)
  })
  app.setNotFoundHandler((request, reply) => {
    const [url = ''] = request.url.split('?')
    const methods = [...paths.values()].filter(({ pattern }) => pattern.test(url)).flatMap((path) => [...path.methods])
    if (methods.length === 0) throw new HttpProblem('no_route', `${request.method} ${url}: there is no such path`)
    void reply.header('allow', [...new Set(methods)].sort().join(', '))
    throw new HttpProblem('method_not_allowed', `${url}: does not know ${request.method}`)
  })
}
