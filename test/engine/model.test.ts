/**
 * Random operations on a volume and on a simple model of it: the same answers, the same state, and a clean check after every step.
 * A failure prints the shortest sequence that fast-check found, and the seed and path that replay it:
 *   LITEVOL_SEED=1234 LITEVOL_PATH=12:3:0 node --test test/engine/model.test.ts
 * LITEVOL_PROPERTY_SECONDS sets how long each property is tried (default 10); a long run sets 600.
 */
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { createVolumeFile } from '../../src/engine/index.ts'
import { assertProperty } from '../properties.ts'
import { withFolder } from '../support.ts'
import { sequences } from './commands.ts'
import { Pair } from './pair.ts'

test('a volume answers as the model does, whatever is done to it, and its check is clean after every step', (context) =>
  withFolder((folder) => {
    const template = join(folder, 'template.sqlite')
    createVolumeFile(template)
    let runs = 0
    let steps = 0
    const property = fc.property(sequences, (commands) => {
      const pair = new Pair(folder, template)
      try {
        for (const command of commands) pair.step(command)
        pair.step({ kind: 'reopen' })
      } finally {
        pair.close()
      }
      runs++
      steps += commands.length
    })
    assertProperty(property)
    context.diagnostic(`${String(runs)} sequences, ${String(steps)} steps`)
  }))
