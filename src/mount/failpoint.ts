/**
 * Failpoints: where a test has the FUSE process killed, to show that its successor goes on.
 * `LITEVOL_FAILPOINT=OPCODE:POINT:N` kills it when the Nth request of that operation reaches that point; several, separated by
 * commas, are for one generation each. Points: `read` (not copied, where a copy is made: request-copy.ts), `received` (not begun),
 * `working` (in its transaction), `committed` (not answered), `answered`. At `fault` the serving thread fails instead, before it begins.
 * Keeps: without the variable there is no failpoint, and nothing is asked on the request path.
 */
import assert from 'node:assert/strict'
import { ErrnoError } from '../base/index.ts'
import { opcodes } from '../fuse/index.ts'

const points = ['read', 'fault', 'received', 'working', 'committed', 'answered'] as const
export type Point = (typeof points)[number]

/** Kills this process when its request gets to its point. */
export class Failpoint {
  readonly #opcode: number
  readonly #point: Point
  #left: number
  #current = 0

  private constructor(opcode: number, point: Point, count: number) {
    this.#opcode = opcode
    this.#point = point
    this.#left = count
  }

  /** The failpoint of a generation, if the variable names one. Throws EINVAL for what cannot be read. */
  static find(variable: string | undefined, generation: number): Failpoint | undefined {
    const text = variable?.split(',')[generation - 1]
    if (text === undefined || text === '') return undefined
    const [name = '', pointName, count = '1'] = text.split(':')
    const point = points.find((known) => known === pointName)
    const opcode = Object.entries(opcodes).find(([known]) => known === name)?.[1]
    if (opcode === undefined || point === undefined || !/^[1-9]\d*$/.test(count))
      throw new ErrnoError('EINVAL', `LITEVOL_FAILPOINT: '${text}' is not OPCODE:POINT:N`)
    return new Failpoint(opcode, point, Number(count))
  }

  /** A request was read. */
  begin(opcode: number): void {
    this.#current = opcode
    if (opcode === this.#opcode) this.#left--
    this.reach('read')
    this.reach('fault')
  }

  /** The request in hand gets to a point. Throws an AssertionError at `fault`. */
  reach(point: Point): void {
    if (point !== this.#point || this.#current !== this.#opcode || this.#left !== 0) return
    assert.notEqual(point, 'fault', 'a failpoint')
    process.kill(process.pid, 'SIGKILL')
  }
}
