/** Who a request comes from, as the store is told. */
import type { FastifyRequest } from 'fastify'

/** `http 127.0.0.1`; over a unix socket there is no address. */
export function authorOf({ socket }: FastifyRequest): string {
  return socket.remoteAddress === undefined ? 'http' : `http ${socket.remoteAddress}`
}
