/**
 * The guard against a request that ends every process that serves it.
 * Keeps: a request sent again that has ended `maximumDeaths` successors is answered with EIO; all others are served.
 * Leaves: the deaths themselves to the keeper; a request that is not sent again is not looked at, so it costs nothing.
 */
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs'

/** Successors that one request may end. */
const maximumDeaths = 3

/** In the file: the number of the request, and how often serving it has begun, as 64-bit floats. */
const recordBytes = 16

export class PoisonGuard {
  readonly #file: number
  readonly #record = Buffer.alloc(recordBytes)
  readonly #suspect: number
  readonly #deaths: number

  /** `path` names the file that outlives this process; a request that it names has ended the one before. */
  constructor(path: string) {
    this.#file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600)
    const length = readSync(this.#file, this.#record, 0, recordBytes, 0)
    this.#suspect = length === recordBytes ? this.#record.readDoubleLE(0) : 0
    this.#deaths = length === recordBytes ? this.#record.readDoubleLE(8) : 0
  }

  /** Notes that a request sent again is about to be served; false when it must not be. */
  enter(request: number): boolean {
    const deaths = request === this.#suspect ? this.#deaths : 0
    if (deaths >= maximumDeaths) return false
    this.#note(request, deaths + 1)
    return true
  }

  /** It was served. */
  leave(): void {
    this.#note(0, 0)
  }

  close(): void {
    closeSync(this.#file)
  }

  #note(request: number, deaths: number): void {
    this.#record.writeDoubleLE(request, 0)
    this.#record.writeDoubleLE(deaths, 8)
    writeSync(this.#file, this.#record, 0, recordBytes, 0)
  }
}
