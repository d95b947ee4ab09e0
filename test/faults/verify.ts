/** A process that compares a mount with logs of facts. Arguments: root, log files. Prints how many held; exits with 1 and the faults when one did not. */
import { readFileSync } from 'node:fs'
import { verifyFacts } from './facts.ts'

const [root = '', ...logs] = process.argv.slice(2)
const results = logs.map((log) => verifyFacts(root, readFileSync(log, 'utf8')))
const faults = results.flatMap((result) => result.faults)
for (const fault of faults) process.stderr.write(`${fault}\n`)
process.stdout.write(`${results.reduce((sum, { held }) => sum + held, 0)}\n`)
process.exitCode = faults.length === 0 ? 0 : 1
