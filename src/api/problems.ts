/**
 * The one place where an error becomes an HTTP reply: RFC 9457 problem details with a stable `code`.
 * Keeps: every error reply has this form; what is our fault is logged with its cause, and its inside is not told.
 * Leaves: the words to problem-words.ts and base's errorTable.
 */
import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { ErrnoError } from '../base/index.ts'
import { problemWords, type ProblemWord } from './problem-words.ts'

/** An error that only HTTP knows. */
export class HttpProblem extends Error {
  readonly word: ProblemWord
  readonly hint: string | undefined

  constructor(word: ProblemWord, detail: string, hint?: string) {
    super(detail)
    this.name = 'HttpProblem'
    this.word = word
    this.hint = hint
  }
}

export interface Problem {
  readonly status: number
  readonly code: string
  readonly detail: string
  readonly hint?: string | undefined
  /** Extension members: `handles`. */
  readonly members?: Readonly<Record<string, unknown>>
}

/** Facts of an error's context that a client may use. */
const publicFacts = ['handles', 'exports', 'attachments', 'findings'] as const

/** How long a client should wait before it tries again, in seconds. */
const retryAfterSeconds = '1'

/** Fastify's error handler. */
export function handleError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem = toProblem(error)
  if (problem.status >= 500) request.log.error({ err: error, code: problem.code }, 'request failed')
  return sendProblem(reply, problem)
}

/** Sends a problem as the reply. */
export function sendProblem(reply: FastifyReply, { status, code, detail, hint, members }: Problem): FastifyReply {
  const body = { type: `urn:litevol:problem:${code}`, title: STATUS_CODES[status] ?? 'Error', status, detail, code, hint, ...members }
  if (status === 503) void reply.header('retry-after', retryAfterSeconds)
  return reply
    .code(status)
    .removeHeader('content-length')
    .type('application/problem+json')
    .serializer((value: unknown) => JSON.stringify(value))
    .send(body)
}

/** What an error says to whoever asked. */
export function toProblem(error: unknown): Problem {
  if (error instanceof ErrnoError) return fromErrno(error)
  if (error instanceof HttpProblem) return fromWord(error.word, error.message, error.hint)
  if (isFastifyError(error)) return fromFastify(error)
  return fromWord('internal', 'an unexpected error; the log says more')
}

function fromErrno({ status, problem, message, hint, context }: ErrnoError): Problem {
  const facts = publicFacts.flatMap((fact) => (fact in context ? [[fact, context[fact]] as const] : []))
  const exact = Object.hasOwn(problemWords, problem) ? problemWords[problem as ProblemWord].status : status
  return { status: exact, code: problem, detail: message, hint, members: Object.fromEntries(facts) }
}

function fromWord(word: ProblemWord, detail: string, hint?: string): Problem {
  return { status: problemWords[word].status, code: word, detail, hint }
}

function isFastifyError(error: unknown): error is FastifyError {
  return error instanceof Error && 'code' in error && 'statusCode' in error && typeof error.statusCode === 'number'
}

function fromFastify(error: FastifyError): Problem {
  if (error.validation !== undefined) return fromValidation(error)
  const hint = "send JSON with 'content-type: application/json'"
  if (error.statusCode === 413) return fromWord('body_too_large', error.message)
  if (error.statusCode === 415) return fromWord('unsupported_media_type', 'the body must be application/json', hint)
  if (error.statusCode === 400) return fromWord('invalid_json', error.message, hint)
  return fromWord('internal', 'an unexpected error; the log says more')
}

/** Says which field of what is wrong, and never its value: that might be a PIN. */
function fromValidation({ validation, validationContext: part = 'querystring' }: FastifyError): Problem {
  const [first] = validation ?? []
  const extra = first?.params['additionalProperty']
  if (typeof extra === 'string') return fromWord('unknown_field', `${part}: unknown field '${extra}'`)
  const field = first?.instancePath.slice(1).replaceAll('/', '.') ?? ''
  const allowed = first?.params['allowedValues']
  const choice = Array.isArray(allowed) ? `: ${allowed.join(', ')}` : ''
  return { status: 400, code: 'invalid', detail: `${part}${field === '' ? '' : ` ${field}`}: ${first?.message ?? 'is wrong'}${choice}` }
}
