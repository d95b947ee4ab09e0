/**
 * Lines of a FUSE process in the manager's log.
 * Keeps: pino lines keep their level and fields; anything else becomes a warning with its text. No line is lost.
 * Leaves: redaction to the loggers on both sides.
 */
import { pino, type Level } from 'pino'
import type { Logger } from '../base/index.ts'

/** Fields that the manager's logger writes itself. */
const ownFields = new Set(['level', 'time', 'pid', 'hostname', 'name', 'msg', 'v'])

/** Logs one line. Returns its message when it is worth remembering as the process's last word: a warning or worse, or text. */
export function logLine(log: Logger, line: string): string | undefined {
  if (line.trim() === '') return undefined
  const fields = parseFields(line)
  if (fields === undefined) {
    log.warn({ output: line }, 'FUSE process wrote')
    return line
  }
  const level = levelOf(fields['level'])
  const message = typeof fields['msg'] === 'string' ? fields['msg'] : ''
  log[level](Object.fromEntries(Object.entries(fields).filter(([name]) => !ownFields.has(name))), message)
  return (pino.levels.values[level] ?? 0) >= (pino.levels.values['warn'] ?? 0) ? message : undefined
}

function parseFields(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && 'level' in value ? { ...value } : undefined
  } catch {
    return undefined // half a line of a process that died
  }
}

const names: readonly Level[] = ['trace', 'debug', 'info', 'warn', 'error', 'fatal']

function levelOf(value: unknown): Level {
  const label = typeof value === 'number' ? pino.levels.labels[value] : value
  return names.find((name) => name === label) ?? 'info'
}
